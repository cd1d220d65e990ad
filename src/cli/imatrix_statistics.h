#pragma once

#include <string>

#include "calque/io/imatrix.h"

namespace calque::cli {

// One row per entry: number of columns and tokens, size of the mean squares, number of unused
// columns, and evenness of the others (entropy divided by its maximum; 1: all equal).
std::string statistics_text(const io::Imatrix& imatrix);

}  // namespace calque::cli
