#pragma once

#include <filesystem>
#include <memory>

#include "calque/artifact/reader.h"

namespace calque::artifact {

std::unique_ptr<ArtifactReader> open_folder(const std::filesystem::path& folder);
std::unique_ptr<ArtifactReader> open_gguf(const std::filesystem::path& file);

}  // namespace calque::artifact
