#include <fmt/format.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "fuzzers.h"

// Runs a fuzzer's function on every file of its corpus, in a program that needs no clang:
// fuzz_corpus NAME FOLDER.
using Fuzzer = int(const std::uint8_t* data, std::size_t size);
#define CALQUE_DECLARE(name) extern "C" Fuzzer fuzz_##name;
#define CALQUE_NAME(name) {#name, fuzz_##name},
CALQUE_FUZZERS(CALQUE_DECLARE)

namespace {

struct Row {
  const char* name;
  Fuzzer* run;
};
constexpr Row kFuzzers[] = {CALQUE_FUZZERS(CALQUE_NAME)};

int run_all(Fuzzer& run, const std::filesystem::path& folder) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    fmt::print("{}\n", entry.path().filename().string());
    std::fflush(stdout);  // the last name is that of the input that ends the process
    run(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
    ++count;
  }
  return count > 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  for (const Row& row : kFuzzers)
    if (argc == 3 && std::strcmp(argv[1], row.name) == 0) return run_all(*row.run, argv[2]);
  fmt::print("usage: fuzz_corpus NAME FOLDER\n");
  return 2;
}
