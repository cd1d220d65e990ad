#pragma once

#include <string>

#include "calque/core/quote.h"
#include "calque/core/units.h"

namespace calque::cli {

// Replaces characters from a file that could control a terminal.
std::string printable(std::string text);

}  // namespace calque::cli
