#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "formats/folder_contents.h"
#include "formats/formats.h"
#include "formats/packed_layout.h"

namespace calque::formats {

// What one kind of folder can hold, and how it is planned.
struct PackedContainer {
  std::string_view format;  // "gptq"
  std::string_view label;   // "GPTQ", for messages and size tables
  std::vector<int> widths;
  bool one_group_size = false;  // for all modules
  // Channels have to come in multiples of these, to fill words.
  Index (*input_multiple)(const ModuleSettings&);
  Index (*output_multiple)(const ModuleSettings&);
  quant::Grid (*grid)(const PlanInputs&, const model::TensorSpec&, const ModuleSettings&);
  std::unique_ptr<PackedLayout> (*layout)(const std::string& checkpoint_format, const Exec& exec);
  // quantization_config, as JSON.
  std::string (*settings)(const FolderContents&, const std::string& checkpoint_format,
                          const Provenance&);
};

// Error(kInternal) if the format is no folder of packed tensors.
const PackedContainer& packed_container(const std::string& format);

}  // namespace calque::formats
