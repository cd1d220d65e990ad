#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace calque::cli {

// What Linux says about this machine.
std::string processor_name();
// Of those that matter here ("avx2", "avx512_bf16", "amx_bf16", ...), what the processor has.
std::vector<std::string> instruction_sets();
std::uint64_t memory_bytes();
std::uint64_t available_memory_bytes();

// Versions of the numerical libraries that are loaded, by asking them: {"OpenBLAS 0.3.21 ...",
// "oneDNN 2.6.3"}. LibTorch brings OpenBLAS; without it that line is missing.
std::vector<std::string> loaded_libraries();

}  // namespace calque::cli
