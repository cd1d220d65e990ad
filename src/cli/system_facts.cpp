#include "cli/system_facts.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <array>
#include <fstream>
#include <set>
#include <sstream>
#include <string_view>

namespace calque::cli {
namespace {

// The text after "key :" on the first line of /proc/cpuinfo or /proc/meminfo that begins with it.
std::string proc_value(const char* file, std::string_view key) {
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) {
    const std::size_t colon = line.find(':');
    if (!line.starts_with(key) || colon == std::string::npos) continue;
    const std::size_t start = line.find_first_not_of(" \t", colon + 1);
    return start == std::string::npos ? "" : line.substr(start);
  }
  return {};
}

std::uint64_t meminfo_bytes(std::string_view key) {
  std::istringstream value(proc_value("/proc/meminfo", key));
  std::uint64_t kib = 0;
  value >> kib;
  return kib * 1024;
}

// Looks up a function in the program's libraries, or in a BLAS that a plug-in loaded privately;
// null if no library with it is loaded.
template <typename Function>
Function* loaded_function(const char* name) {
  if (void* function = dlsym(RTLD_DEFAULT, name)) return reinterpret_cast<Function*>(function);
  for (const char* library : {"libopenblas.so.0", "libblas.so.3"})
    if (void* handle = dlopen(library, RTLD_LAZY | RTLD_NOLOAD))
      if (void* function = dlsym(handle, name)) return reinterpret_cast<Function*>(function);
  return nullptr;
}

struct DnnlVersion {  // dnnl_version_t
  int major;
  int minor;
  int patch;
};

}  // namespace

std::string processor_name() {
  const std::string name = proc_value("/proc/cpuinfo", "model name");
  return name.empty() ? "unknown" : name;
}

std::vector<std::string> instruction_sets() {
  constexpr std::array<const char*, 11> interesting = {
      "avx2",        "fma",         "f16c",     "avx512f",  "avx512bw", "avx512_vnni",
      "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_bf16", "amx_int8"};
  std::istringstream flags(proc_value("/proc/cpuinfo", "flags"));
  std::set<std::string> present;
  for (std::string flag; flags >> flag;) present.insert(flag);
  std::vector<std::string> result;
  for (const char* flag : interesting)
    if (present.count(flag)) result.emplace_back(flag);
  return result;
}

std::uint64_t memory_bytes() { return meminfo_bytes("MemTotal"); }

std::uint64_t available_memory_bytes() { return meminfo_bytes("MemAvailable"); }

std::vector<std::string> loaded_libraries() {
  std::vector<std::string> libraries;
  if (const auto openblas = loaded_function<char*()>("openblas_get_config"))
    libraries.emplace_back(openblas());
  if (const auto dnnl = loaded_function<const DnnlVersion*()>("dnnl_version"))
    libraries.push_back(
        fmt::format("oneDNN {}.{}.{}", dnnl()->major, dnnl()->minor, dnnl()->patch));
  if (const auto tbb = loaded_function<const char*()>("TBB_runtime_version"))
    libraries.push_back(fmt::format("oneTBB {}", tbb()));
  return libraries;
}

}  // namespace calque::cli
