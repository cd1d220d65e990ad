#pragma once

#include <stdexcept>

namespace calque::cli {

// A sweep that ran to its end with failed runs ("E195"). Not an Error: no library throws it, and it
// has an exit code of its own.
class SweepFailure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace calque::cli
