#pragma once

#include <string>
#include <vector>

namespace calque::cli {

// Columns as wide as their widest cell, separated by two spaces; no spaces at line ends.
class TextTable {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kRight;
  };

  explicit TextTable(std::vector<Column> columns);
  // Adds a row: one cell per column.
  void add(std::vector<std::string> cells);
  std::string text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;  // the titles are first
};

}  // namespace calque::cli
