// The code that a new thread of another process runs to load the library, and the block of memory it shares with its injector.
#ifndef CLINUX_INJECT_H
#define CLINUX_INJECT_H

#include <stdint.h>

enum clinux_inject_limit { clinux_inject_path = 512, clinux_inject_text = 256 };

/// How far the injected threads have come. Written by them, in this order; the failures end it.
enum clinux_inject_state {
    clinux_inject_begun = 0,
    clinux_inject_sockets = 1,    // waits for one datagram on the socket
    clinux_inject_serving = 2,    // the library has the socket
    clinux_inject_ended = 3,      // it gave it back
    clinux_inject_no_sockets = 10,
    clinux_inject_no_file,
    clinux_inject_no_answer,
    clinux_inject_no_thread,
    clinux_inject_not_loaded,     // `text` has what dlerror() says
    clinux_inject_no_function,
};

/// Lies in the target right behind the code. Addresses are the target's.
struct clinux_inject_block {
    uint64_t base, size;                        // of the whole mapping
    uint64_t thread;                            // thread pointer of the first thread
    uint64_t guard;                             // page below the worker's stack
    uint64_t stack, stack_size;                 // the worker's
    uint64_t first_mask, worker_mask;           // signals blocked
    uint64_t attr_init, attr_setstack, attr_setdetachstate, create;
    uint64_t keys, getspecific, setspecific;    // __pthread_keys, and the functions on them
    uint64_t dlopen, dlsym, dlclose, dlerror;   // dlerror may be 0
    uint64_t worker;                            // address of clinux_inject_worker
    uint64_t serve, reap;                       // 0: found with dlsym once the library is loaded
    uint64_t tid_offset;                        // of the thread id from the thread pointer
    uint64_t handover, handover_size;           // libc's zero-initialised thread-local variables: distance below the thread pointer
    uint64_t rseq_offset;                       // from the thread pointer
    uint32_t rseq_size, rseq_signature;
    uint32_t dlopen_flags;
    uint32_t wants_file;                        // the library comes through a memory file
    uint32_t first_socket;                      // lowest number for the library's socket
    uint32_t patience;                          // milliseconds to wait for the injector
    int32_t state, error;                       // enum clinux_inject_state, errno
    int32_t helper, workers;                    // thread ids, cleared by the kernel when the threads have ended
    int32_t given, kept, file;                  // descriptors
    int32_t padding;
    uint64_t thread_id;                         // pthread_t
    uint64_t attributes[8];                     // pthread_attr_t
    char path[clinux_inject_path];
    char serve_name[32], reap_name[32];
    char text[clinux_inject_text];
};

/// The code and its size, free of relocations; entry points are given as offsets.
const uint8_t *_Nonnull clinux_inject_code(uint64_t *_Nonnull size);
uint64_t clinux_inject_entry(void);
uint64_t clinux_inject_worker_entry(void);

/// Flags of clone(2) for the first thread.
uint64_t clinux_inject_clone_flags(void);

/// `ubpf_serve` of the library: talks on the socket until the peer closes it. The worker closes the socket, never the library.
typedef void clinux_serve_function(int32_t socket);

#endif
