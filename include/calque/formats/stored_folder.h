#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "calque/core/input_grid.h"
#include "calque/core/matrix.h"
#include "calque/io/safetensors.h"
#include "calque/kernels/scale_search.h"

namespace calque::formats {

// Separate views of a folder of packed linears: by its tensors alone, and by its settings alone.
// The reader (reader.h) combines them; `verify` compares them, so they must be able to disagree.
// These functions continue after a fault if they can and add a message for the user to `faults`.

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

// A packed module as seen from its tensors alone. Bit width and number of groups need no settings.
struct StoredModule {
  std::string name;
  const Format* format = nullptr;  // identified by tensor names
  int bits = 0;
  Index N = 0;
  Index K = 0;
  Index groups = 0;
  std::optional<SmallFloat> number;  // as in quant::Grid
  Index scale_rows = 1;
  std::optional<ScalePrecision> coded_scales;
  const io::TensorRef* codes = nullptr;  // null: in words, under a name that dense modules lack
  const io::TensorRef* scales = nullptr;
  const io::TensorRef* zeros = nullptr;  // null: none stored
  const io::TensorRef* g_idx = nullptr;
};

struct ConfiguredSettings {
  int bits = 4;
  Index group_size = 128;
  std::optional<SmallFloat> number = std::nullopt;  // as in quant::Grid
  Index scale_rows = 1;
  std::optional<ScalePrecision> coded_scales = std::nullopt;
  std::optional<InputGrid> inputs = std::nullopt;
};

// quantization_config, evaluated the way loaders do.
class ConfiguredModules {
 public:
  virtual ~ConfiguredModules() = default;
  // The settings of one module; nullopt if it is not quantized.
  virtual std::optional<ConfiguredSettings> of(const std::string& module) const = 0;
  // A description of what loaders interpret differently in such a module; "" if nothing.
  virtual std::string ambiguity_of(const StoredModule& /*module*/) const { return ""; }

  // True: whether a module is quantized is told by its tensors, and settings are for those that
  // are. Loaders then take any linear packed, routers too.
  virtual bool tensors_decide() const { return false; }

  const Format* format = nullptr;
};

// Null for a plain checkpoint. Faults are settings that no loader reads, and files that contradict
// each other.
std::unique_ptr<ConfiguredModules> configured_modules(const std::filesystem::path& folder,
                                                      std::vector<std::string>& faults);

// Finds the packed modules. Modules with missing or contradictory tensors are reported as faults
// and left out. If two formats use the same tensor names, `configured` (may be null) decides.
std::vector<StoredModule> stored_modules(const StoredTensors& tensors,
                                         const ConfiguredModules* configured,
                                         std::vector<std::string>& faults);

}  // namespace calque::formats
