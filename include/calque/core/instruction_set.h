#pragma once

#include <span>
#include <string_view>

// The one place that says which instructions loops and products may use. Everything is compiled for
// the narrowest set of the processor's family (x86-64-v3: AVX2, FMA, F16C, BMI); loops that gain by
// it are compiled a second time for AVX-512 (calque_avx512_copy in src/CMakeLists.txt), and
// whoever has such a copy asks here at run time.
namespace calque {

enum class InstructionSet {
  kGeneric,  // processors that are no x86-64: one set, the compiler's own
  kAvx2,     // x86-64-v3
  kAvx512,   // x86-64-v4
  kAmx,      // x86-64-v4, and tiles of bfloat16, which oneDNN's products use
};

// "generic", "avx2", "avx512", "amx".
std::string_view name_of(InstructionSet set);

// The sets that this build has and this machine can run, the widest last.
std::span<const InstructionSet> runnable_instruction_sets();

// The set that this process uses: the one that the environment variable CALQUE_ISA names, else the
// widest. It never changes. Throws Error(kConfig, "E130") where CALQUE_ISA names no runnable set.
InstructionSet instruction_set();

// True where loops use their copy for AVX-512.
inline bool uses_avx512() { return instruction_set() >= InstructionSet::kAvx512; }

}  // namespace calque
