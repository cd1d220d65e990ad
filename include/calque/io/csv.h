#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace calque::io {

// A CSV table as RFC 4180 has it, titles apart from rows.
struct Csv {
  std::vector<std::string> titles;
  std::vector<std::vector<std::string>> rows;

  // -1: no such column.
  int column(std::string_view title) const;
  // "": no such column, or the row ends before it.
  const std::string& cell(std::size_t row, std::string_view title) const;
};

// Quotes are optional, line ends LF or CRLF. Rows must have as many cells as there are titles:
// Error(kInput, "E252") with the line. A last line without an end is left out where
// `still_growing`: another process is writing it.
Csv parse_csv(std::string_view text, const std::string& where, bool still_growing = false);
Csv read_csv(const std::filesystem::path& path, bool still_growing = false);

// A line with its end; cells are quoted where they need it.
std::string csv_line(const std::vector<std::string>& cells);
std::string csv_text(const Csv& csv);

}  // namespace calque::io
