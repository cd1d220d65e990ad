#pragma once

#include <string>
#include <vector>

namespace calque::formats {

// Regular expressions, as few as is easy, that match exactly `chosen` out of `all` module names,
// and the whole name: "model\.layers\.\d+\.mlp\.(gate_proj|up_proj)$". Numbers become \d+ where
// all modules of that kind are chosen, alternations otherwise.
std::vector<std::string> regexes_of(const std::vector<std::string>& chosen,
                                    const std::vector<std::string>& all);

}  // namespace calque::formats
