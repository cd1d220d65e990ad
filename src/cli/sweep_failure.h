#pragma once

#include <stdexcept>

namespace calque::cli {

// A sweep that came to its end, with runs that failed ("E195"). Not an Error: nothing that a
// library throws means it, and its exit code is one of its own.
class SweepFailure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace calque::cli
