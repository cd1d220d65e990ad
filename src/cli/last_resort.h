#pragma once

namespace calque::cli {

// Advice appended to every message of error E304.
inline constexpr const char* kLessMemory =
    "\nFinished exports are kept. A job needs less memory with a limit (runtime.max_ram; "
    "activations beyond it go to runtime.offload_dir), fewer calibration rows "
    "(calibration.n_samples) or fewer threads (runtime.threads)";

// Handles the cases in which memory runs out without an exception to catch: std::bad_alloc in a
// destructor or another library's thread, and, under a limit on address space (ulimit -v), a
// library that writes to memory it did not get (oneDNN 2.6 does). Ends the process with E304 and
// leaves no half-written files.
void tell_out_of_memory_without_unwinding();

}  // namespace calque::cli
