#pragma once

#include <string>

namespace calque::cli {

// The commit that the program was built from, as "0fb58f8a12" or "0fb58f8a12 with changes", and its
// day, as "2026-11-30"; both "" in a build without git. commit.cmake writes the file that defines
// them, the only one that a new commit compiles again.
extern const char* const kCommit;
extern const char* const kCommitDay;

// "calque 0.1.0 (commit 0fb58f8a12, 2026-11-30)"
std::string version_text();

}  // namespace calque::cli
