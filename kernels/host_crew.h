// Threads that help with rows: a part of host.c.
//
// They are Python's threads, which wait here until a row is there for them. One that sleeps needs some 50 us to wake up, so
// it is called before the row is known, and stays awake for a while.
#ifdef _WIN32
#include <windows.h>
typedef SRWLOCK PidLock;
typedef CONDITION_VARIABLE PidBell;
static void pid_made(PidLock *lock, PidBell *bell) { InitializeSRWLock(lock), InitializeConditionVariable(bell); }
static void pid_lock(PidLock *lock) { AcquireSRWLockExclusive(lock); }
static void pid_unlock(PidLock *lock) { ReleaseSRWLockExclusive(lock); }
static void pid_sleep(PidLock *lock, PidBell *bell) { SleepConditionVariableSRW(bell, lock, INFINITE, 0); }
static void pid_ring(PidBell *bell) { WakeAllConditionVariable(bell); }
static void pid_yield(void) { SwitchToThread(); }
static uint64_t pid_now(void) {  // ns, of a clock that nobody sets
    LARGE_INTEGER ticks, second;
    QueryPerformanceCounter(&ticks), QueryPerformanceFrequency(&second);
    return (uint64_t)((double)ticks.QuadPart / (double)second.QuadPart * 1e9);
}
#else
#include <pthread.h>
#include <sched.h>
#include <time.h>
typedef pthread_mutex_t PidLock;
typedef pthread_cond_t PidBell;
static void pid_made(PidLock *lock, PidBell *bell) { pthread_mutex_init(lock, 0), pthread_cond_init(bell, 0); }
static void pid_lock(PidLock *lock) { pthread_mutex_lock(lock); }
static void pid_unlock(PidLock *lock) { pthread_mutex_unlock(lock); }
static void pid_sleep(PidLock *lock, PidBell *bell) { pthread_cond_wait(bell, lock); }
static void pid_ring(PidBell *bell) { pthread_cond_broadcast(bell); }
static void pid_yield(void) { sched_yield(); }
static uint64_t pid_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
#endif

#define PID_HELPERS 7     // the most that there are
#define PID_AWAKE 400000  // ns that a helper waits awake for a row it was called for
#define PID_AFTER 50000   // and, after a row, for the next one

typedef struct {
    PidLock lock;
    PidBell bell;                   // rung by each call
    uint64_t calls;                 // so far, and how many helpers there are and sleep: all four under the lock
    uint32_t helpers, asleep;
    int32_t core, id[PID_HELPERS];  // the core they were last called from, and what the system knows them by
    int32_t alone;                  // whether the caller may use no other core
    uint32_t taken, helping;        // whether a thread does a row with them, and how many are at it
    uint64_t rows;                  // done with them, this one included
    const PidHostStep *step;        // of this row; null where there is none
    uint64_t *next;
} PidCrew;

// Keeps the helpers off the caller's core: one that was put there would only push the caller aside. Linux does that in
// virtual machines, where a core that the host has taken away does not count as idle. Returns 0 where there is no other.
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
static int32_t pid_self(void) { return (int32_t)syscall(SYS_gettid); }
static int pid_place(PidCrew *crew) {
    const int32_t core = sched_getcpu();
    cpu_set_t cores;
    if (core == crew->core || sched_getaffinity(0, sizeof(cores), &cores)) return !crew->alone;
    crew->core = core;
    CPU_CLR(core, &cores);
    crew->alone = !CPU_COUNT(&cores);
    for (uint32_t k = 0; k < crew->helpers && !crew->alone; ++k) sched_setaffinity(crew->id[k], sizeof(cores), &cores);
    return !crew->alone;
}
#else
static int32_t pid_self(void) { return 0; }
static int pid_place(PidCrew *crew) { return !crew->alone; }
#endif

static void pid_pause(void) {
#ifdef __aarch64__
    __asm__ volatile("isb");
#else
    __builtin_ia32_pause();
#endif
}

// Does parts of a row from *next on, up to `most` elements; returns 0 where none is left. Threads share *next.
static int pid_parts(const PidHostStep *step, uint64_t *next) {
    static PID_STEP((*const narrow[PID_FORMS])) = PID_TABLE(pid_step_, _float);
    static PID_STEP((*const doubles[PID_FORMS])) = PID_TABLE(pid_step_, _double);
    for (uint64_t done = 0; done < step->most; done += step->part) {
        const uint64_t start = __atomic_fetch_add(next, step->part, __ATOMIC_RELAXED);
        if (start >= step->stop) return 0;
        const uint64_t left = step->stop - start;
        (step->wide ? doubles : narrow)[step->form](step, start, start + (left < step->part ? left : step->part));
    }
    return 1;
}

// Does parts of the row that is there, if it is another one than the last; returns the row's number.
static uint64_t pid_join(PidCrew *crew, uint64_t last) {
    if (!__atomic_load_n(&crew->step, __ATOMIC_SEQ_CST)) return last;
    __atomic_add_fetch(&crew->helping, 1, __ATOMIC_SEQ_CST);
    const PidHostStep *step = __atomic_load_n(&crew->step, __ATOMIC_SEQ_CST);  // from here on it stays: it waits for us
    if (step && crew->rows != last) {
        last = crew->rows;
        pid_parts(step, crew->next);
    }
    __atomic_sub_fetch(&crew->helping, 1, __ATOMIC_SEQ_CST);
    return last;
}

PID_EXPORT uint32_t pid_crew_size(void) { return sizeof(PidCrew); }

PID_EXPORT void pid_crew(PidCrew *crew) {
    memset(crew, 0, sizeof(*crew));
    pid_made(&crew->lock, &crew->bell);
}

// What a helper does, for ever; returns where there are enough.
PID_EXPORT void pid_help(PidCrew *crew) {
    pid_lock(&crew->lock);
    const int enough = crew->helpers == PID_HELPERS;
    if (!enough) crew->id[crew->helpers++] = pid_self();
    crew->core = -1;
    uint64_t heard = crew->calls, last = crew->rows;
    pid_unlock(&crew->lock);
    if (enough) return;
    for (uint64_t until = pid_now() + PID_AWAKE;; until = pid_now() + PID_AWAKE) {
        while (pid_now() < until) {
            pid_pause();
            const uint64_t row = pid_join(crew, last);
            if (row != last) until = pid_now() + PID_AFTER;
            last = row;
        }
        pid_lock(&crew->lock);
        ++crew->asleep;
        while (crew->calls == heard) pid_sleep(&crew->lock, &crew->bell);
        --crew->asleep;
        heard = crew->calls;
        pid_unlock(&crew->lock);
    }
}

// Wakes the helpers: a row will soon be there.
PID_EXPORT void pid_call(PidCrew *crew) {
    pid_lock(&crew->lock);
    const int helps = pid_place(crew);
    crew->calls += helps;
    const uint32_t asleep = helps ? crew->asleep : 0;
    pid_unlock(&crew->lock);
    if (asleep) pid_ring(&crew->bell);  // not under the lock, which those that wake up take
}

// Does parts of a row, with the helpers that are awake where `crew` is not null; returns 0 where none is left.
PID_EXPORT int pid_step(PidCrew *crew, const PidHostStep *step, uint64_t *next) {
    if (!crew || __atomic_exchange_n(&crew->taken, 1, __ATOMIC_SEQ_CST)) return pid_parts(step, next);
    crew->next = next;
    ++crew->rows;
    __atomic_store_n(&crew->step, step, __ATOMIC_SEQ_CST);
    const int more = pid_parts(step, next);
    __atomic_store_n(&crew->step, 0, __ATOMIC_SEQ_CST);
    for (int looks = 0; __atomic_load_n(&crew->helping, __ATOMIC_SEQ_CST);) looks < 1000 ? ++looks, pid_pause() : pid_yield();
    __atomic_store_n(&crew->taken, 0, __ATOMIC_SEQ_CST);
    return more;
}
