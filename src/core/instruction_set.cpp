#include "calque/core/instruction_set.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "calque/core/error.h"
#include "calque/core/names.h"

#ifdef __x86_64__
#include <cpuid.h>
#endif

namespace calque {
namespace {

#ifdef __x86_64__

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}

// The register by which the operating system says whose state it saves.
unsigned saved_states() {
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

bool has_bfloat16_tiles() {
  constexpr unsigned kTiles = 1u << 24, kOfBFloat16 = 1u << 22;  // leaf 7, EDX
  constexpr unsigned kTileStates = 3u << 17;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  const bool has_tiles = (d & kTiles) != 0 && (d & kOfBFloat16) != 0;
  return has_tiles && (saved_states() & kTileStates) == kTileStates;
}

std::vector<InstructionSet> find_runnable_sets() {
  std::vector<InstructionSet> sets = {InstructionSet::kAvx2};
  if (has_avx512()) sets.push_back(InstructionSet::kAvx512);
  if (has_avx512() && has_bfloat16_tiles()) sets.push_back(InstructionSet::kAmx);
#ifdef CALQUE_NATIVE_BUILD
  sets.erase(sets.begin(), sets.end() - 1);
#endif
  return sets;
}

#else

std::vector<InstructionSet> find_runnable_sets() { return {InstructionSet::kGeneric}; }

#endif

[[noreturn]] void refuse(std::string_view name) {
  std::string possible;
  for (const InstructionSet set : runnable_instruction_sets())
    possible += fmt::format("{}{}", possible.empty() ? "" : ", ", name_of(set));
  throw Error(ErrorKind::kConfig, "E130",
              fmt::format("CALQUE_ISA: this calque cannot use the instruction set {} on this "
                          "machine; it can use: {}",
                          quote_name(name), possible));
}

InstructionSet choose() {
  const std::span<const InstructionSet> sets = runnable_instruction_sets();
  const char* const name = std::getenv("CALQUE_ISA");
  if (name == nullptr || *name == '\0') return sets.back();
  const auto named = std::find_if(sets.begin(), sets.end(),
                                  [&](InstructionSet set) { return name_of(set) == name; });
  if (named == sets.end()) refuse(name);
  return *named;
}

}  // namespace

std::string_view name_of(InstructionSet set) {
  constexpr std::string_view kNames[] = {"generic", "avx2", "avx512", "amx"};
  return kNames[static_cast<int>(set)];
}

std::span<const InstructionSet> runnable_instruction_sets() {
  static const std::vector<InstructionSet> sets = find_runnable_sets();
  return sets;
}

InstructionSet instruction_set() {
  static const InstructionSet chosen = choose();
  return chosen;
}

}  // namespace calque
