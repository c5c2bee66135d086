// The functions that Python calls, one set for each variant; see medseg_nca/nca/kernels/library.py.
#include "backward.hpp"
#include "forward.hpp"

#define MEDSEG_NAME2(name, variant) medseg_nca_##name##_##variant
#define MEDSEG_NAME1(name, variant) MEDSEG_NAME2(name, variant)
#define MEDSEG_NAME(name) MEDSEG_NAME1(name, MEDSEG_VARIANT)
#if defined(_WIN32)
#define MEDSEG_EXPORT extern "C" __declspec(dllexport)
#else
#define MEDSEG_EXPORT extern "C" __attribute__((visibility("default")))
#endif

// What the numbers of a state are.
enum Kind : int64_t { FLOAT32 = 0, FLOAT64 = 1, BFLOAT16 = 2 };

// One call; each function reads the fields that it needs.
struct Call {
    int64_t kind;
    int64_t count, size, first, steps, middle, team;
    void* states;
    void* grads;
    const Grid* grid;
    const void* rule;
    const Firing* firing;
    const void* sums;
    int64_t* meeting;
    double* moments;
    double* history;
};

namespace {

template <class S>
int64_t roll(const Call& call, char* memory) {
    typedef Computed<S> T;
    const Rule<T>& rule = *static_cast<const Rule<T>*>(call.rule);
    Scratch<T> scratch;
    lay_out(scratch, memory, *call.grid, rule, false);
    Meeting meeting = {call.meeting, call.team, 0};
    return roll_slabs(static_cast<S*>(call.states), call.count, call.size, call.first, call.steps,
                      meeting, *call.grid, rule, *call.firing, scratch, call.moments, call.history);
}

template <class T>
void back(const Call& call, char* memory) {
    const Rule<T>& rule = *static_cast<const Rule<T>*>(call.rule);
    Scratch<T> scratch;
    lay_out(scratch, memory, *call.grid, rule, true);
    Meeting meeting = {call.meeting, call.team, 0};
    back_slabs(static_cast<const T*>(call.states), static_cast<T*>(call.grads), call.size, call.steps,
               call.middle, meeting, *call.grid, rule, *call.firing, scratch,
               *static_cast<const Sums<T>*>(call.sums), call.history, call.moments);
}

template <class T>
int64_t scratch_bytes(const Call& call, bool backward) {
    Scratch<T> scratch;
    return lay_out(scratch, nullptr, *call.grid, *static_cast<const Rule<T>*>(call.rule), backward);
}

}  // namespace

// What the library was made from. All variants agree, so the linker keeps one.
MEDSEG_EXPORT __attribute__((weak)) const char* medseg_nca_digest() { return MEDSEG_DIGEST; }

// Number of bytes of a vector.
MEDSEG_EXPORT int64_t MEDSEG_NAME(vector_bytes)() { return MEDSEG_VECTOR_BYTES; }

// How many rows past its end a matrix of gradients must have room for.
MEDSEG_EXPORT int64_t MEDSEG_NAME(slack)() { return SLACK; }

// How many bytes of zeros each thread needs.
MEDSEG_EXPORT int64_t MEDSEG_NAME(scratch)(const Call* call, int64_t backward) {
    return call->kind == FLOAT64 ? scratch_bytes<double>(*call, backward)
                                 : scratch_bytes<float>(*call, backward);
}

MEDSEG_EXPORT int64_t MEDSEG_NAME(roll)(const Call* call, void* memory) {
    char* scratch = static_cast<char*>(memory);
    switch (call->kind) {
        case FLOAT64:
            return roll<double>(*call, scratch);
        case BFLOAT16:
            return roll<bfloat16>(*call, scratch);
        default:
            return roll<float>(*call, scratch);
    }
}

MEDSEG_EXPORT void MEDSEG_NAME(back)(const Call* call, void* memory) {
    char* scratch = static_cast<char*>(memory);
    call->kind == FLOAT64 ? back<double>(*call, scratch) : back<float>(*call, scratch);
}

// Copy ``(B, own, *spatial)`` into a padded state, halo left out.
MEDSEG_EXPORT void MEDSEG_NAME(load)(const Call* call, const void* state, int64_t own) {
    Meeting meeting = {call->meeting, call->team, 0};
    if (call->kind == FLOAT64)
        load_slabs(static_cast<const double*>(state), own, static_cast<double*>(call->states), meeting,
                   *call->grid);
    else if (call->kind == BFLOAT16)
        load_slabs(static_cast<const bfloat16*>(state), own, static_cast<bfloat16*>(call->states),
                   meeting, *call->grid);
    else
        load_slabs(static_cast<const float*>(state), own, static_cast<float*>(call->states), meeting,
                   *call->grid);
}
