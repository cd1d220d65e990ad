#include "calque/formats/stored_folder.h"

#include <fmt/format.h>

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

// The format whose marker ends `tensor`; the configured format wins if several have this marker.
const Format* format_of_tensor(std::string_view tensor, const ConfiguredModules* configured) {
  const Format* told = configured == nullptr ? nullptr : configured->format;
  if (told != nullptr && tensor.ends_with(told->packed->marker)) return told;
  for (const Format* format : formats())
    if (format->packed != nullptr && tensor.ends_with(format->packed->marker)) return format;
  return nullptr;
}

}  // namespace

std::vector<StoredModule> stored_modules(const StoredTensors& tensors,
                                         const ConfiguredModules* configured,
                                         std::vector<std::string>& faults) {
  StoredParts parts(tensors, faults);
  std::vector<StoredModule> modules;
  for (const auto& [tensor, ref] : tensors.by_name) {
    const Format* format = format_of_tensor(tensor, configured);
    if (format == nullptr || tensor.size() == format->packed->marker.size()) continue;
    const std::string name = tensor.substr(0, tensor.size() - format->packed->marker.size());
    if (std::optional<StoredModule> module = format->packed->stored(parts, name)) {
      module->format = format;
      modules.push_back(*module);
    }
    // Loaders that look for ".weight" first would load the module unquantized.
    if (tensors.find(name + ".weight") != nullptr)
      faults.push_back(
          fmt::format("module '{}' is stored twice: packed and as '{}.weight'. Remove "
                      "one of them.",
                      name, name));
  }
  return modules;
}

}  // namespace calque::formats
