#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <vector>

#include "io/io_test_support.h"

namespace calque::testing {

// A safetensors file put together by hand: u64 length, header, data.
inline std::string safetensors(const std::string& header, const std::string& data = "") {
  return raw(std::uint64_t{header.size()}) + header + data;
}

// A header entry without its braces: "name":{...}
inline std::string entry(const std::string& name, const std::string& dtype,
                         const std::string& shape, const std::string& offsets) {
  return fmt::format(R"("{}":{{"dtype":"{}","shape":{},"data_offsets":{}}})", name, dtype, shape,
                     offsets);
}

// The entries as one JSON object.
inline std::string object_of(const std::vector<std::string>& entries) {
  std::string json;
  for (const std::string& one : entries) json.append(json.empty() ? "{" : ",").append(one);
  return json.append(json.empty() ? "{}" : "}");
}

// The file with one F32 tensor of one element under each of the names.
inline std::string file_of(const std::vector<std::string>& names) {
  std::vector<std::string> entries;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::string offsets = fmt::format("[{},{}]", 4 * i, 4 * i + 4);
    entries.push_back(entry(names[i], "F32", "[1]", offsets));
  }
  return safetensors(object_of(entries), std::string(4 * names.size(), '\0'));
}

}  // namespace calque::testing
