/*
 * cxx.cpp: function-local statics under construction, and the locks of the C++ library.
 *
 * No exception leaves a hazard: what the C++ library throws in the child counts as a wrong result.
 */
#include "hazard.h"

#include <link.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <new>
#include <shared_mutex>
#include <stdexcept>
#include <thread>

namespace {

/* ---- function-local statics ---- */

hz_event begun, go_on;
bool in_child;
int throws_left;

/* Its constructor stays inside until it is let go, except in the child, which must get through
 * alone. */
struct Slow {
    int value;
    Slow() : value(0) {
        hz_post(&begun);
        if (!in_child) {
            hz_await(&go_on, 1);
        }
        if (throws_left > 0) {
            throws_left--;
            throw std::runtime_error("not yet");
        }
        value = 42;
    }
};

Slow &slow() {
    static Slow instance;
    return instance;
}

int use_slow(void *) {
    HZ_IS(slow().value, 42);
    return HZ_OK;
}

int use_slow_and_catch(void *) {
    try {
        return use_slow(nullptr);
    } catch (const std::runtime_error &) {
        return HZ_OK;
    }
}

int child_uses_slow(void *) {
    in_child = true;
    HZ_TRY(use_slow(nullptr));
    return hz_elsewhere(use_slow, nullptr);
}

int static_under_construction(const void *) {
    hz_thread maker;
    hz_start(&maker, use_slow, nullptr);
    hz_await(&begun, 1);
    HZ_TRY(hz_child(child_uses_slow, nullptr));
    hz_post(&go_on);
    HZ_TRY(hz_finish(&maker));
    return use_slow(nullptr);
}

/* A second thread waits for the first one's construction: both vanish. */
int static_waited_for(const void *) {
    hz_thread maker, waiter;
    hz_start(&maker, use_slow, nullptr);
    hz_await(&begun, 1);
    hz_start(&waiter, use_slow, nullptr);
    hz_until_stuck(&waiter);
    HZ_TRY(hz_child(child_uses_slow, nullptr));
    hz_post(&go_on);
    HZ_TRY(hz_finish(&maker));
    return hz_finish(&waiter);
}

/* Once the constructor throws in the child too, and then it does not. */
int child_catches_then_uses(void *) {
    in_child = true;
    bool caught = false;
    try {
        slow();
    } catch (const std::runtime_error &) {
        caught = true;
    }
    HZ_TRUE(caught);
    HZ_TRY(use_slow(nullptr));
    return hz_elsewhere(use_slow, nullptr);
}

int static_that_throws(const void *) {
    hz_thread maker;
    throws_left = 1;
    hz_start(&maker, use_slow_and_catch, nullptr);
    hz_await(&begun, 1);
    HZ_TRY(hz_child(child_catches_then_uses, nullptr));
    hz_post(&go_on);
    HZ_TRY(hz_finish(&maker));
    HZ_IS(throws_left, 0);
    return use_slow(nullptr);
}

/* The constructor itself forks: the child's copy of this thread is still inside, and completes it.
 */
struct Forking {
    int value;
    pid_t child;
    Forking() : value(0), child(-1) {
        hz_post(&begun);
        hz_await(&go_on, 1);
        child = fork();
        value = 7;
    }
};

Forking &forking() {
    static Forking instance;
    return instance;
}

int use_forking(void *) {
    HZ_IS(forking().value, 7);
    return HZ_OK;
}

int static_forks(const void *) {
    hz_post(&go_on);
    pid_t child = forking().child;
    if (child == 0) {
        _exit(hz_elsewhere(use_forking, nullptr));
    }
    HZ_SETUP(child > 0);
    HZ_TRY(hz_wait(child));
    return use_forking(nullptr);
}

hz_thread ghost_of_forking;

int start_waiter_and_go(void *) {
    hz_await(&begun, 1);
    hz_start(&ghost_of_forking, use_forking, nullptr);
    hz_until_stuck(&ghost_of_forking);
    hz_post(&go_on);
    return HZ_OK;
}

/* The same, with a thread that waits for the construction and vanishes. */
int static_forks_waited_for(const void *) {
    hz_thread starter;
    hz_start(&starter, start_waiter_and_go, nullptr);
    pid_t child = forking().child;
    if (child == 0) {
        _exit(hz_elsewhere(use_forking, nullptr));
    }
    HZ_SETUP(child > 0);
    HZ_TRY(hz_wait(child));
    HZ_TRY(hz_finish(&starter));
    return hz_finish(&ghost_of_forking);
}

/* A static whose constructor needs another: both are under construction. */
struct Outer {
    int value;
    Outer() : value(slow().value + 1) {}
};

int use_outer(void *) {
    static Outer outer;
    HZ_IS(outer.value, 43);
    return HZ_OK;
}

int child_uses_outer(void *) {
    in_child = true;
    HZ_TRY(use_outer(nullptr));
    return child_uses_slow(nullptr);
}

int static_nested(const void *) {
    hz_thread maker;
    hz_start(&maker, use_outer, nullptr);
    hz_await(&begun, 1);
    HZ_TRY(hz_child(child_uses_outer, nullptr));
    hz_post(&go_on);
    HZ_TRY(hz_finish(&maker));
    return use_outer(nullptr);
}

/* ---- mutexes ---- */

template <class Mutex> int lock_it(void *mutex) {
    static_cast<Mutex *>(mutex)->lock();
    return 0;
}

template <class Mutex> int unlock_it(void *mutex) {
    static_cast<Mutex *>(mutex)->unlock();
    return 0;
}

template <class Mutex> int is_taken(void *mutex) {
    HZ_TRUE(!static_cast<Mutex *>(mutex)->try_lock());
    return HZ_OK;
}

template <class Mutex> int is_free(void *mutex) {
    HZ_TRUE(static_cast<Mutex *>(mutex)->try_lock());
    static_cast<Mutex *>(mutex)->unlock();
    return HZ_OK;
}

template <class Mutex> int works(void *mutex) {
    {
        std::lock_guard<Mutex> guard(*static_cast<Mutex *>(mutex));
        HZ_TRY(hz_elsewhere(is_taken<Mutex>, mutex));
    }
    return hz_elsewhere(is_free<Mutex>, mutex);
}

template <class Mutex> int vanished_holder(const void *) {
    Mutex mutex;
    hz_holder holder;
    hz_hold(&holder, lock_it<Mutex>, unlock_it<Mutex>, &mutex);
    HZ_TRY(hz_child(works<Mutex>, &mutex));
    HZ_TRY(hz_let_go(&holder));
    return works<Mutex>(&mutex);
}

int child_tries_for_a_while(void *mutex) {
    std::timed_mutex *timed = static_cast<std::timed_mutex *>(mutex);
    HZ_TRUE(timed->try_lock_for(std::chrono::seconds(1)));
    timed->unlock();
    return works<std::timed_mutex>(mutex);
}

int timed_mutex_try_lock_for(const void *) {
    std::timed_mutex mutex;
    hz_holder holder;
    hz_hold(&holder, lock_it<std::timed_mutex>, unlock_it<std::timed_mutex>, &mutex);
    HZ_TRY(hz_child(child_tries_for_a_while, &mutex));
    return hz_let_go(&holder);
}

template <class Mutex> int lock_shared(void *mutex) {
    static_cast<Mutex *>(mutex)->lock_shared();
    return 0;
}

template <class Mutex> int unlock_shared(void *mutex) {
    static_cast<Mutex *>(mutex)->unlock_shared();
    return 0;
}

template <class Mutex> int vanished_reader(const void *) {
    Mutex mutex;
    hz_holder holder;
    hz_hold(&holder, lock_shared<Mutex>, unlock_shared<Mutex>, &mutex);
    HZ_TRY(hz_child(works<Mutex>, &mutex));
    HZ_TRY(hz_let_go(&holder));
    return works<Mutex>(&mutex);
}

/* What the survivor holds, in a guard whose destructor unlocks it in the child as well. */
template <class Mutex> int own(const void *) {
    static Mutex mutex;
    hz_bystander bystander;
    hz_bystander_start(&bystander);
    pid_t child;
    {
        std::unique_lock<Mutex> guard(mutex);
        child = fork();
        if (child == 0) {
            int taken = hz_elsewhere(is_taken<Mutex>, &mutex);
            guard.unlock();
            _exit(taken != HZ_OK ? taken : works<Mutex>(&mutex));
        }
    }
    HZ_SETUP(child > 0);
    HZ_TRY(hz_wait(child));
    HZ_TRY(hz_bystander_stop(&bystander));
    return works<Mutex>(&mutex);
}

struct Three {
    std::mutex first, second;
    std::recursive_mutex third;
};

int take_three(void *arg) {
    Three *three = static_cast<Three *>(arg);
    std::lock(three->first, three->second, three->third);
    return 0;
}

int drop_three(void *arg) {
    Three *three = static_cast<Three *>(arg);
    three->first.unlock();
    three->second.unlock();
    three->third.unlock();
    return 0;
}

int child_locks_three(void *arg) {
    Three *three = static_cast<Three *>(arg);
    {
        std::scoped_lock all(three->first, three->second, three->third);
        HZ_TRY(hz_elsewhere(is_taken<std::recursive_mutex>, &three->third));
    }
    return hz_elsewhere(is_free<std::mutex>, &three->second);
}

int scoped_lock(const void *) {
    Three three;
    hz_holder holder;
    hz_hold(&holder, take_three, drop_three, &three);
    HZ_TRY(hz_child(child_locks_three, &three));
    HZ_TRY(hz_let_go(&holder));
    return child_locks_three(&three);
}

/* ---- condition variables: in raw memory, so that the child can run the destructor ---- */

template <class Cond> struct Room {
    std::mutex mutex;
    Cond *cond;
    alignas(Cond) unsigned char memory[sizeof(Cond)];
    int tickets = 0;
    hz_event inside = {0};
    Room() : cond(new (memory) Cond) {}
    void renew() {
        cond->~Cond();
        cond = new (memory) Cond;
    }
};

template <class Cond> int waiter(void *arg) {
    Room<Cond> *room = static_cast<Room<Cond> *>(arg);
    std::unique_lock<std::mutex> lock(room->mutex);
    hz_post(&room->inside);
    room->cond->wait(lock, [room] { return room->tickets > 0; });
    room->tickets--;
    return HZ_OK;
}

template <class Cond> void start_waiter(Room<Cond> *room, hz_thread *thread) {
    int before = hz_seen(&room->inside);
    hz_start(thread, waiter<Cond>, room);
    hz_await(&room->inside, before + 1);
    std::lock_guard<std::mutex> lock(room->mutex);
}

template <class Cond> void give(Room<Cond> *room, int tickets) {
    std::lock_guard<std::mutex> lock(room->mutex);
    room->tickets += tickets;
    if (tickets == 1) {
        room->cond->notify_one();
    } else {
        room->cond->notify_all();
    }
}

template <class Cond> int room_works(Room<Cond> *room) {
    for (int i = 0; i < 4; i++) {
        hz_thread threads[2];
        start_waiter(room, &threads[0]);
        start_waiter(room, &threads[1]);
        if (i % 2) {
            give(room, 1);
            give(room, 1);
        } else {
            give(room, 2);
        }
        HZ_TRY(hz_finish(&threads[0]));
        HZ_TRY(hz_finish(&threads[1]));
    }
    return HZ_OK;
}

template <class Cond> int child_notifies(void *arg) {
    return room_works(static_cast<Room<Cond> *>(arg));
}

template <class Cond> int child_destroys(void *arg) {
    Room<Cond> *room = static_cast<Room<Cond> *>(arg);
    room->renew();
    return room_works(room);
}

template <class Cond> int vanished_waiters(int (*child)(void *)) {
    Room<Cond> room;
    hz_thread threads[2];
    start_waiter(&room, &threads[0]);
    start_waiter(&room, &threads[1]);
    HZ_TRY(hz_child(child, &room));
    give(&room, 2);
    HZ_TRY(hz_finish(&threads[0]));
    HZ_TRY(hz_finish(&threads[1]));
    return room_works(&room);
}

template <class Cond> int cond_notify(const void *) {
    return vanished_waiters<Cond>(child_notifies<Cond>);
}

template <class Cond> int cond_destructor(const void *) {
    return vanished_waiters<Cond>(child_destroys<Cond>);
}

/* ---- call_once: pthread_once below, which glibc repairs ---- */

std::once_flag once;
int once_done;

int run_once(void *) {
    std::call_once(once, [] {
        hz_post(&begun);
        if (!in_child) {
            hz_await(&go_on, 1);
        }
        once_done++;
    });
    return HZ_OK;
}

int child_runs_once(void *) {
    in_child = true;
    HZ_TRY(run_once(nullptr));
    HZ_TRY(hz_elsewhere(run_once, nullptr));
    HZ_IS(once_done, 1);
    return HZ_OK;
}

int call_once_in_progress(const void *) {
    hz_thread thread;
    hz_start(&thread, run_once, nullptr);
    hz_await(&begun, 1);
    HZ_TRY(hz_child(child_runs_once, nullptr));
    hz_post(&go_on);
    HZ_TRY(hz_finish(&thread));
    HZ_IS(once_done, 1);
    return HZ_OK;
}

/* ---- std::thread ---- */

struct Shop {
    std::mutex mutex;
    long sold = 0;
};

/* New threads of the child, among them one made by another, under the inherited mutex. */
int child_runs_threads(void *arg) {
    Shop *shop = static_cast<Shop *>(arg);
    const long before = [shop] {
        std::lock_guard<std::mutex> guard(shop->mutex);
        return shop->sold;
    }();
    auto sell = [shop] {
        for (int i = 0; i < 1000; i++) {
            std::lock_guard<std::mutex> guard(shop->mutex);
            shop->sold++;
        }
    };
    std::thread first([&sell] {
        std::thread inner(sell);
        sell();
        inner.join();
    });
    std::thread second(sell);
    first.join();
    second.join();
    HZ_IS(shop->sold - before, 3000);
    return HZ_OK;
}

int threads_in_child(const void *) {
    Shop shop;
    hz_holder holder;
    hz_hold(&holder, lock_it<std::mutex>, unlock_it<std::mutex>, &shop.mutex);
    HZ_TRY(hz_child(child_runs_threads, &shop));
    HZ_TRY(hz_let_go(&holder));
    return child_runs_threads(&shop);
}

/* ---- storms ---- */

template <class Mutex> int churn(const void *) {
    Mutex mutexes[2];
    hz_pair pairs[2];
    for (int i = 0; i < 2; i++) {
        hz_pair_init(&pairs[i], lock_it<Mutex>, unlock_it<Mutex>, &mutexes[i]);
    }
    return hz_churn_forks(pairs, 2, 200);
}

hz_event stop_throwing, throwing;

int throw_and_catch(int depth) {
    struct Tracker {
        std::unique_ptr<int> memory = std::make_unique<int>(1);
    } tracker;
    if (depth == 0) {
        throw std::runtime_error("as asked");
    }
    return throw_and_catch(depth - 1) + *tracker.memory;
}

int throw_once(void *) {
    try {
        throw_and_catch(5);
    } catch (const std::runtime_error &) {
        return HZ_OK;
    }
    return HZ_WRONG;
}

int thrower(void *) {
    hz_post(&throwing);
    while (hz_seen(&stop_throwing) == 0) {
        HZ_TRY(throw_once(nullptr));
    }
    return HZ_OK;
}

/* Threads vanish while their stacks are being unwound; the child throws as well. */
int exceptions(const void *) {
    hz_thread threads[2];
    hz_start(&threads[0], thrower, nullptr);
    hz_start(&threads[1], thrower, nullptr);
    hz_await(&throwing, 2);
    HZ_TRY(hz_children(200, throw_once, nullptr));
    hz_post(&stop_throwing);
    HZ_TRY(hz_finish(&threads[0]));
    return hz_finish(&threads[1]);
}

using std::condition_variable;
using std::condition_variable_any;
using std::mutex;
using std::recursive_mutex;
using std::recursive_timed_mutex;
using std::shared_mutex;
using std::shared_timed_mutex;
using std::timed_mutex;

/* ---- an exception out of a callback that libc made under a lock ---- */

hz_event thrown;

int throws(dl_phdr_info *, size_t, void *) { throw std::runtime_error("out of the callback"); }

int throws_out_of_callback(void *) {
    try {
        dl_iterate_phdr(throws, nullptr);
    } catch (const std::runtime_error &) {
        hz_post(&thrown);
        hz_await(&go_on, 1);
        return HZ_OK;
    }
    return HZ_WRONG;
}

int count_module(dl_phdr_info *, size_t, void *count) {
    ++*static_cast<unsigned *>(count);
    return 0;
}

int iterates(void *) {
    unsigned modules = 0;
    dl_iterate_phdr(count_module, &modules);
    HZ_TRUE(modules >= 2);
    return HZ_OK;
}

int callback_throws(const void *) {
    hz_thread thread;
    hz_start(&thread, throws_out_of_callback, nullptr);
    hz_await(&thrown, 1);
    HZ_TRY(hz_children(3, iterates, nullptr));
    hz_post(&go_on);
    return hz_finish(&thread);
}

const struct hazard hazards[] = {
    HAZARD("cxx_callback_throws", callback_throws, OK,
           "another thread has thrown out of dl_iterate_phdr's callback"),
    HAZARD("cxx_static", static_under_construction, HANGS,
           "function-local static under construction in a vanished thread"),
    HAZARD("cxx_static_waited_for", static_waited_for, HANGS,
           "under construction, and another vanished thread waits for it"),
    HAZARD("cxx_static_throws", static_that_throws, HANGS,
           "under construction, and its constructor is going to throw"),
    HAZARD("cxx_static_nested", static_nested, HANGS, "two statics under construction"),
    HAZARD("cxx_static_forks", static_forks, OK, "the survivor forks inside a constructor"),
    HAZARD("cxx_static_forks_waited_for", static_forks_waited_for, OK,
           "the survivor forks inside a constructor that a vanished thread waits for"),
    HAZARD("cxx_mutex", vanished_holder<mutex>, HANGS, "std::mutex"),
    HAZARD("cxx_recursive_mutex", vanished_holder<recursive_mutex>, HANGS, "std::recursive_mutex"),
    HAZARD("cxx_timed_mutex", vanished_holder<timed_mutex>, HANGS, "std::timed_mutex"),
    HAZARD("cxx_recursive_timed_mutex", vanished_holder<recursive_timed_mutex>, HANGS,
           "std::recursive_timed_mutex"),
    HAZARD("cxx_try_lock_for", timed_mutex_try_lock_for, WRONG,
           "std::timed_mutex, try_lock_for fails for ever in the child"),
    HAZARD("cxx_shared_mutex", vanished_holder<shared_mutex>, HANGS, "std::shared_mutex, written"),
    HAZARD("cxx_shared_mutex_read", vanished_reader<shared_mutex>, HANGS,
           "std::shared_mutex, read-held"),
    HAZARD("cxx_shared_timed_mutex_read", vanished_reader<shared_timed_mutex>, HANGS,
           "std::shared_timed_mutex, read-held"),
    HAZARD("cxx_scoped_lock", scoped_lock, HANGS, "three mutexes by std::lock"),
    HAZARD("cxx_own_mutex", own<mutex>, OK, "std::mutex held by the survivor"),
    HAZARD("cxx_own_recursive_mutex", own<recursive_mutex>, HANGS,
           "std::recursive_mutex held by the survivor"),
    HAZARD("cxx_own_shared_mutex", own<shared_mutex>, HANGS,
           "std::shared_mutex written by the survivor"),
    HAZARD("cxx_cond_notify", cond_notify<condition_variable>, HANGS,
           "std::condition_variable with ghosts"),
    HAZARD("cxx_cond_destructor", cond_destructor<condition_variable>, HANGS,
           "std::condition_variable destroyed with ghosts"),
    HAZARD("cxx_cond_any_notify", cond_notify<condition_variable_any>, HANGS,
           "std::condition_variable_any with ghosts"),
    HAZARD("cxx_call_once", call_once_in_progress, OK, "std::call_once in progress"),
    HAZARD("cxx_threads_in_child", threads_in_child, HANGS,
           "std::thread in the child, under an inherited mutex"),
    HAZARD_CHANCE("cxx_churn", churn<mutex>, nullptr, EITHER, "three threads turn std::mutex"),
    HAZARD_CHANCE("cxx_churn_shared", churn<shared_mutex>, nullptr, EITHER,
                  "three threads turn std::shared_mutex"),
    HAZARD("cxx_exceptions", exceptions, OK, "threads vanish in the middle of unwinding"),
};

} // namespace

HAZARD_MAIN(hazards)
