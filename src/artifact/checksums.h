#pragma once

#include <filesystem>

#include "artifact/verify_parts.h"

namespace calque::artifact {

// Every line of the folder's SHA256SUMS against the file it names, and the files that it leaves
// out.
void check_checksums(const std::filesystem::path& folder, Findings& findings);

}  // namespace calque::artifact
