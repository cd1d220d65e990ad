#include "cli/version.h"

#include <fmt/format.h>

namespace calque::cli {

std::string version_text() {
  if (*kCommit == '\0') return "calque " CALQUE_VERSION " (built without git: commit not known)";
  return fmt::format("calque {} (commit {}, {})", CALQUE_VERSION, kCommit, kCommitDay);
}

}  // namespace calque::cli
