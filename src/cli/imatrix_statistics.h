#pragma once

#include <string>

#include "calque/io/imatrix.h"

namespace calque::cli {

// A row an entry: how many columns and tokens, how large the mean squares are, how many columns are
// never used, and how evenly the rest is used (entropy over its logarithm: 1 is evenly).
std::string statistics_text(const io::Imatrix& imatrix);

}  // namespace calque::cli
