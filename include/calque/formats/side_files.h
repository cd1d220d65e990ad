#pragma once

#include <filesystem>
#include <vector>

namespace calque::formats {

// The files of a model folder other than weights and configuration: tokenizer, chat template,
// generation_config.json, licence, ... Sorted by name. Leaves out weights of any kind and their
// indices, config.json, the settings of earlier quantizations, README and SHA256SUMS (they describe
// another artifact), hidden and half-written files, and folders.
std::vector<std::filesystem::path> side_files(const std::filesystem::path& model_folder);

}  // namespace calque::formats
