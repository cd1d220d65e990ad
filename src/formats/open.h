#pragma once

#include <filesystem>
#include <memory>

#include "calque/formats/reader.h"

namespace calque::formats {

std::unique_ptr<ArtifactReader> open_folder(const std::filesystem::path& folder);
std::unique_ptr<ArtifactReader> open_gguf(const std::filesystem::path& file);

}  // namespace calque::formats
