#pragma once

#include <string>
#include <utility>
#include <vector>

#include "text/jinja/builtins.h"
#include "text/jinja/syntax.h"

namespace calque::text::jinja {

// A Failure with its line.
struct RenderFailure {
  std::size_t line;
  std::string message;
};

struct RenderLimits {
  std::size_t steps = 20'000'000;
  // Bytes of all values made, not only of the text; more is allowed for each byte of the variables.
  std::size_t bytes = std::size_t{256} << 20;
  std::size_t bytes_per_byte = 64;
};

// The text that `template_body` makes of these variables. Throws RenderFailure.
std::string render(const Block& template_body, const io::Json& variables, const Clock& clock,
                   const RenderLimits& limits);

}  // namespace calque::text::jinja
