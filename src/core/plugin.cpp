#include "calque/core/plugin.h"

#include <dlfcn.h>

#include <filesystem>
#include <vector>

namespace calque {
namespace {

std::vector<std::string> candidates(const std::string& file) {
  std::vector<std::string> paths{file};
  std::error_code ignored;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", ignored);
  if (ignored) return paths;
  const std::filesystem::path folder = program.parent_path();
  paths.push_back((folder / file).string());
  paths.push_back((folder / ".." / "lib" / "calque" / file).string());
  return paths;
}

}  // namespace

void* Plugin::symbol(const char* name) const {
  return library == nullptr ? nullptr : dlsym(library, name);
}

Plugin load_plugin(const std::string& file) {
  Plugin plugin;
  for (const std::string& candidate : candidates(file)) {
    plugin.library = dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (plugin.library != nullptr) return plugin;
    // A file that is there but does not load explains more than the ones that are not there.
    const char* const reason = dlerror();
    if (plugin.failure.empty() || std::filesystem::exists(candidate))
      plugin.failure = reason == nullptr ? candidate : reason;
  }
  return plugin;
}

}  // namespace calque
