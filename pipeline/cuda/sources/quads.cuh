// Rows in shared memory that threads read four neighbours at a time.
#pragma once
#include <memory.cuh>

// Four neighbours are one quad. Threads side by side begin STRIDE quads apart; in this order those that they read at
// once lie side by side, so that no two are in one bank.
template <int COUNT, int STRIDE>
struct Quads {
    // Of each residue; an odd multiple of 64 bytes, so that writers meet no bank twice either.
    static constexpr int kLength = ((COUNT + STRIDE - 1) / STRIDE + 3) / 8 * 8 + 4;
    Pack<float, 4> at[STRIDE * kLength];

    // None is negative.
    DEVICE_MEMBER Pack<float, 4>& quad(unsigned int quad) { return at[quad % STRIDE * kLength + quad / STRIDE]; }
    // The quad `further` behind quad STRIDE * group; where `further` is a constant, this is an addition.
    DEVICE_MEMBER Pack<float, 4>& quad(int group, int further) {
        return at[further % STRIDE * kLength + further / STRIDE + group];
    }
    DEVICE_MEMBER float& item(unsigned int index) { return quad(index >> 2).at[index & 3]; }
};
