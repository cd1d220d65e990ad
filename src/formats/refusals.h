#pragma once

#include <string>
#include <utility>
#include <vector>

namespace calque::formats {

// Reasons why an export cannot be made, collected so that the user sees all of them at once.
class Refusals {
 public:
  void add(std::string code, std::string message) {
    reasons_.emplace_back(std::move(code), std::move(message));
  }
  bool empty() const { return reasons_.empty(); }
  // One Error(kConfig) with every reason; its code is the first one's.
  void throw_if_any() const;

 private:
  std::vector<std::pair<std::string, std::string>> reasons_;
};

}  // namespace calque::formats
