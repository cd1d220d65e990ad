#pragma once

#include <string>

#include "calque/core/quote.h"
#include "calque/core/units.h"

namespace calque::cli {

// Text from a file without what would steer a terminal.
std::string printable(std::string text);

}  // namespace calque::cli
