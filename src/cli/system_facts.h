#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace calque::cli {

// Facts about this machine, read from Linux.
std::string processor_name();
// The relevant instruction sets that the processor has: "avx2", "avx512_bf16", "amx_bf16", ...
std::vector<std::string> instruction_sets();
std::uint64_t memory_bytes();
std::uint64_t available_memory_bytes();

// Versions of the loaded numerical libraries, as they report them: {"OpenBLAS 0.3.21 ...", "oneDNN
// 2.6.3"}. OpenBLAS comes with LibTorch and is missing without it.
std::vector<std::string> loaded_libraries();

}  // namespace calque::cli
