#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/packed_format.h"

namespace calque::formats {

// A way in which a module of a compressed-tensors folder is stored: the package's `format`. Layouts
// are rows of one table; the folder's config names them, and a module's tensors tell them apart.
struct ModuleLayout {
  std::string_view name;  // "pack-quantized"
  bool (*stores)(const StoredAs&);
  std::vector<io::TensorDeclaration> (*declare)(const std::string& module, Index N, Index K,
                                                const StoredAs&);
  std::vector<NamedBytes> (*pack)(const std::string& module, const quant::QuantizedMatrix& q,
                                  const Packing& packing);
  // True for a module with this tensor that holds its codes; checked in the order of the table.
  std::string_view codes;  // "weight_packed"
  DType dtype;             // its type
  std::optional<DType> scales =
      std::nullopt;  // that of its weight_scale, where it tells layouts apart
  PackedModule (*open)(const io::SafetensorsCheckpoint& checkpoint, const std::string& module,
                       const PackedSettings& settings);
  std::optional<StoredModule> (*stored)(StoredParts& parts, const std::string& module);
};

std::span<const ModuleLayout> layouts();
// The layout that a module takes.
const ModuleLayout& layout_for(const StoredAs& stored);
// Null if no layout has such a name.
const ModuleLayout* find_layout(std::string_view name);

}  // namespace calque::formats
