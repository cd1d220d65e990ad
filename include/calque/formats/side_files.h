#pragma once

#include <filesystem>
#include <vector>

namespace calque::formats {

// Files of a model folder that belong to it besides the weights and the configuration: tokenizer,
// chat template, generation_config.json, licence, ... Sorted by name. Left out: weights of any
// kind and their indices, config.json, the settings of earlier quantizations, README and
// SHA256SUMS (they speak of another artifact), hidden and half-written files, folders.
std::vector<std::filesystem::path> side_files(const std::filesystem::path& model_folder);

}  // namespace calque::formats
