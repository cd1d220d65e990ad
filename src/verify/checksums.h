#pragma once

#include <filesystem>

#include "verify/verify_parts.h"

namespace calque::verify {

// Every line of the folder's SHA256SUMS against the file it names, and the files that it leaves
// out.
void check_checksums(const std::filesystem::path& folder, Findings& findings);

}  // namespace calque::verify
