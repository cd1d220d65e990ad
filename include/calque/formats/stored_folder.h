#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "calque/core/matrix.h"
#include "calque/io/safetensors.h"

namespace calque::formats {

// A folder of packed linears as its tensors and its settings tell apart from each other, and apart
// from what reads it for use (reader.h), so that the three can disagree. Everything here goes on
// where it can; what is wrong is added to `faults`, in words for the user.

struct Format;

// The tensors of a folder by name, from as many of its files as could be read.
struct StoredTensors {
  std::map<std::string, const io::TensorRef*, std::less<>> by_name;
  bool complete = true;  // every file could be read

  const io::TensorRef* find(const std::string& name) const {
    const auto found = by_name.find(name);
    return found == by_name.end() ? nullptr : found->second;
  }
};

// A packed module as its tensors alone tell: no settings are needed to see the width and the number
// of groups.
struct StoredModule {
  std::string name;
  const Format* format = nullptr;  // by the names of its tensors
  int bits = 0;
  Index N = 0;
  Index K = 0;
  Index groups = 0;
  const io::TensorRef* scales = nullptr;
  const io::TensorRef* zeros = nullptr;  // null: none stored
  const io::TensorRef* g_idx = nullptr;
};

struct ConfiguredSettings {
  int bits = 4;
  Index group_size = 128;
};

// quantization_config, evaluated as loaders do.
class ConfiguredModules {
 public:
  virtual ~ConfiguredModules() = default;
  // What it says of one module; nullopt: to be left as it is.
  virtual std::optional<ConfiguredSettings> of(const std::string& module) const = 0;
  // What loaders read in different ways in a module of `format` that is stored so; "": nothing.
  virtual std::string ambiguity_of(const StoredModule& /*module*/) const { return ""; }

  const Format* format = nullptr;
};

// Null for a plain checkpoint. Faults: settings that no loader reads, files that contradict each
// other.
std::unique_ptr<ConfiguredModules> configured_modules(const std::filesystem::path& folder,
                                                      std::vector<std::string>& faults);

// Finds the packed modules; those whose tensors are missing or contradict each other are faults and
// left out. Where formats have tensors of the same names, `configured` (or null) tells which it is.
std::vector<StoredModule> stored_modules(const StoredTensors& tensors,
                                         const ConfiguredModules* configured,
                                         std::vector<std::string>& faults);

}  // namespace calque::formats
