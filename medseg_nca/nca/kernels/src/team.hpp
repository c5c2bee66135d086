// Threads that compute slabs together, and meet after every part of a step.
#pragma once

#include <stdint.h>
#if defined(_WIN32)
extern "C" __declspec(dllimport) int SwitchToThread(void);
#elif !defined(__wasm__)
#include <sched.h>
#endif

namespace {

inline void rest() {
#if defined(_WIN32)
    SwitchToThread();
#elif !defined(__wasm__)
    sched_yield();
#endif
}

// Counters that all threads of a team share, zero at first: ``at[0]`` counts arrivals, the others are
// for claims, one for each meeting.
struct Meeting {
    int64_t* at;
    int64_t team;
    int64_t point;

    // The next job of this part of the work; no other thread gets the same.
    int64_t claim() const { return __atomic_fetch_add(at + point, 1, __ATOMIC_ACQ_REL); }

    void begin() { ++point; }

    // Wait until all threads have come to the end of this part.
    void end() const {
        if (team == 1) return;
        __atomic_fetch_add(at, 1, __ATOMIC_ACQ_REL);
        // How often a thread looks for the others before it lets another program have the core.
        const int patience = 2000;
        for (int looks = 0; __atomic_load_n(at, __ATOMIC_ACQUIRE) < team * point; ++looks)
            if (looks > patience) rest();
    }
};

// Let the threads of a team do ``work(job)`` for all jobs, and meet.
template <class Work>
inline void share(Meeting& meeting, int64_t first, int64_t last, Work work) {
    meeting.begin();
    for (int64_t job = first + meeting.claim(); job < last; job = first + meeting.claim()) work(job);
}

}  // namespace
