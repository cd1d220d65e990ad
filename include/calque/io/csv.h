#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace calque::io {

// A CSV table (RFC 4180) with its header row apart from the data.
struct Csv {
  std::vector<std::string> titles;
  std::vector<std::vector<std::string>> rows;

  // -1: no such column.
  int column(std::string_view title) const;
  // "": no such column, or the row ends before it.
  const std::string& cell(std::size_t row, std::string_view title) const;
};

// Quotes are optional, line ends LF or CRLF. Every row must have as many cells as the header:
// Error(kInput, "E252") with the line number. With `still_growing` an unterminated last line is
// skipped, because another process is still writing it.
Csv parse_csv(std::string_view text, const std::string& where, bool still_growing = false);
Csv read_csv(const std::filesystem::path& path, bool still_growing = false);

// One line with its line end; cells are quoted if necessary.
std::string csv_line(const std::vector<std::string>& cells);
std::string csv_text(const Csv& csv);

}  // namespace calque::io
