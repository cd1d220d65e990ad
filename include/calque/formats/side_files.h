#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace calque::formats {

// The files of a model folder other than weights and configuration: tokenizer, chat templates (also
// those in additional_chat_templates/), generation_config.json, licence, ...
struct SideFiles {
  std::vector<std::filesystem::path> copied;  // relative to the folder, sorted
  // The rest, sorted; folders end in "/": weights of other kinds, settings of earlier
  // quantizations, other folders. Does not list what every export replaces (README, config.json,
  // SHA256SUMS), the weights that are read, and hidden and half-written files.
  std::vector<std::string> left_out;
};

// Error(kInput) if a file to be copied is a link to one that is not there, or a git-lfs pointer.
SideFiles side_files(const std::filesystem::path& model_folder);

void copy_side_files(const std::filesystem::path& model_folder, const std::filesystem::path& to);

}  // namespace calque::formats
