// Vectors of the processor, in the vector extensions that clang and gcc share.
//
// Every variant of the kernels (AVX-512, AVX2, ...) is this source once more, with another width. All of
// it lives in an anonymous namespace, so that no function of one variant can be linked into another.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifndef MEDSEG_VECTOR_BYTES
#error "MEDSEG_VECTOR_BYTES must be the width of a vector: 16, 32 or 64"
#endif

#if defined(__clang__)
#define MEDSEG_UNROLL _Pragma("clang loop unroll(full)")
#else
#define MEDSEG_UNROLL _Pragma("GCC unroll 32")
#endif

namespace {

// The upper half of a float; it is computed in float.
struct bfloat16 {
    uint16_t bits;
};

// The type in which numbers of a stored type are computed, and a vector of it.
template <class S>
struct ComputedAs {
    typedef S type;
};
template <>
struct ComputedAs<bfloat16> {
    typedef float type;
};
template <class S>
using Computed = typename ComputedAs<S>::type;

template <class S>
struct VectorOf {
    typedef Computed<S> type __attribute__((vector_size(MEDSEG_VECTOR_BYTES)));
};
template <class S>
using Vector = typename VectorOf<S>::type;

// How many numbers of a type that is computed fit into a vector.
template <class T>
constexpr int64_t LANES = MEDSEG_VECTOR_BYTES / int64_t(sizeof(T));

typedef uint32_t Words __attribute__((vector_size(MEDSEG_VECTOR_BYTES)));
typedef uint16_t Halves __attribute__((vector_size(MEDSEG_VECTOR_BYTES / 2)));

template <class T>
inline Vector<T> load(const T* from) {
    Vector<T> value;
    memcpy(&value, from, sizeof value);
    return value;
}

inline Vector<float> load(const bfloat16* from) {
    Halves half;
    memcpy(&half, from, sizeof half);
    const Words word = __builtin_convertvector(half, Words) << 16;
    Vector<float> value;
    memcpy(&value, &word, sizeof value);
    return value;
}

// For the compiler a store may change anything in memory, so loops that store keep what they read of
// structures and indices in variables of their own.
template <class T>
inline void store(Vector<T> value, T* to) {
    memcpy(to, &value, sizeof value);
}

// Round to the nearest bfloat16, ties to even. A NaN stays one: it can only be the quiet NaN of an
// operation, whose upper bits do not overflow into the sign.
inline void store(Vector<float> value, bfloat16* to) {
    Words word;
    memcpy(&word, &value, sizeof word);
    word = (word + (0x7FFF + ((word >> 16) & 1))) >> 16;
    const Halves half = __builtin_convertvector(word, Halves);
    memcpy(to, &half, sizeof half);
}

// max(value, 0); a NaN stays a NaN.
template <class T>
inline Vector<T> positive(Vector<T> value) {
    const Vector<T> zero = {};
    return zero > value ? zero : value;
}

template <class T>
inline T total(Vector<T> value) {
    T sum = 0;
    MEDSEG_UNROLL
    for (int64_t i = 0; i < LANES<T>; ++i) sum += value[i];
    return sum;
}

}  // namespace
