#pragma once

#include <string>
#include <utility>
#include <vector>

#include "calque/core/matrix.h"

namespace calque::formats {

// Collects the reasons for refusing an export, so that the user sees all of them at once.
class Refusals {
 public:
  void add(std::string code, std::string message) {
    reasons_.emplace_back(std::move(code), std::move(message));
  }
  bool empty() const { return reasons_.empty(); }
  // Throws one Error(kConfig) with every reason and the first reason's code.
  void throw_if_any() const;

 private:
  std::vector<std::pair<std::string, std::string>> reasons_;
};

// "2^6·3^2·5" for 2880.
std::string factorisation(Index n);

// "[14336, 4096]"
std::string shape_text(const std::vector<Index>& shape);

// "a, b or c"
std::string alternatives(const std::vector<std::string>& items);

}  // namespace calque::formats
