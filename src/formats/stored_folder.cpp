#include "calque/formats/stored_folder.h"

#include <fmt/format.h>

#include <set>
#include <utility>

#include "formats/messages.h"
#include "formats/packed_format.h"

namespace calque::formats {

bool fits_groups(const StoredModule& module) {
  return module.K > 0 && module.N > 0 && module.groups > 0 && module.groups <= module.K;
}

const io::TensorRef* StoredParts::matrix(const std::string& module, const std::string& suffix,
                                         const std::vector<DType>& dtypes) {
  const std::string name = module + "." + suffix;
  const io::TensorRef* tensor = tensors_.find(name);
  if (tensor == nullptr) {
    if (tensors_.complete)
      add_fault(
          fmt::format("module '{}' is packed, but its tensor '{}' is missing. Download the file "
                      "again.",
                      module, name));
    return nullptr;
  }
  for (const DType dtype : dtypes)
    if (tensor->dtype == dtype && tensor->shape.size() == 2) return tensor;
  std::vector<std::string> names;
  for (const DType dtype : dtypes) names.emplace_back(name_of(dtype));
  add_fault(fmt::format("tensor '{}' is {} {}, expected a matrix of {}", name,
                        name_of(tensor->dtype), tensor->shape_text(), alternatives(names)));
  return nullptr;
}

std::nullopt_t StoredParts::contradiction(const std::string& module,
                                          const std::vector<const io::TensorRef*>& parts) {
  std::string shapes;
  for (const io::TensorRef* part : parts)
    if (part != nullptr)
      shapes += fmt::format("{}{} {}", shapes.empty() ? "" : ", ",
                            part->name.substr(part->name.rfind('.') + 1), part->shape_text());
  add_fault(
      fmt::format("the tensors of module '{}' contradict each other: {}. Write the artifact "
                  "again.",
                  module, shapes));
  return std::nullopt;
}

namespace {

// The module that a tensor with one of the format's markers belongs to; "" if it has none.
std::string module_marked(const Format& format, std::string_view tensor) {
  for (const std::string_view marker : {format.packed->marker, format.packed->other_marker})
    if (!marker.empty() && tensor.size() > marker.size() && tensor.ends_with(marker))
      return std::string(tensor.substr(0, tensor.size() - marker.size()));
  return "";
}

// A format, and the module of it that a tensor marks.
struct Marked {
  const Format* format = nullptr;
  std::string module;
};

// The configured format wins if several have this marker.
Marked marked_by(std::string_view tensor, const ConfiguredModules* configured) {
  const Format* told = configured == nullptr ? nullptr : configured->format;
  if (told != nullptr)
    if (std::string module = module_marked(*told, tensor); !module.empty())
      return {told, std::move(module)};
  for (const Format* format : formats())
    if (format->packed != nullptr)
      if (std::string module = module_marked(*format, tensor); !module.empty())
        return {format, std::move(module)};
  return {};
}

}  // namespace

std::vector<StoredModule> stored_modules(const StoredTensors& tensors,
                                         const ConfiguredModules* configured,
                                         std::vector<std::string>& faults) {
  StoredParts parts(tensors, configured, faults);
  std::vector<StoredModule> modules;
  std::set<std::string> seen;
  for (const auto& [tensor, ref] : tensors.by_name) {
    const auto [format, name] = marked_by(tensor, configured);
    if (format == nullptr || !seen.insert(name).second) continue;
    bool codes_are_weight = false;
    if (std::optional<StoredModule> module = format->packed->stored(parts, name)) {
      module->format = format;
      codes_are_weight = module->codes != nullptr;
      modules.push_back(*module);
    }
    // Loaders that look for ".weight" first would load the module unquantized.
    const io::TensorRef* weight = tensors.find(name + ".weight");
    if (weight != nullptr && !codes_are_weight && is_floating(weight->dtype))
      faults.push_back(
          fmt::format("module '{}' is stored twice: packed and as '{}.weight'. Remove "
                      "one of them.",
                      name, name));
  }
  return modules;
}

}  // namespace calque::formats
