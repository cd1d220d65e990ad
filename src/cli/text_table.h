#pragma once

#include <string>
#include <vector>

namespace calque::cli {

// Columns as wide as their widest cell, two blanks between them, no blanks at the end of lines.
class TextTable {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kRight;
  };

  explicit TextTable(std::vector<Column> columns);
  // One cell a column.
  void add(std::vector<std::string> cells);
  std::string text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;  // the titles first
};

}  // namespace calque::cli
