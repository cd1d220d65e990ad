#include "forward/kept_rows.h"

#include <cstdint>
#include <span>

namespace calque::forward {
namespace {

void write(std::uint64_t number, const io::ByteSink& sink) {
  sink(std::as_bytes(std::span(&number, 1)));
}

std::uint64_t read(const io::ByteSource& source) {
  std::uint64_t number = 0;
  source(std::as_writable_bytes(std::span(&number, 1)));
  return number;
}

}  // namespace

void write_count(std::size_t count, const io::ByteSink& sink) { write(count, sink); }

std::size_t read_count(const io::ByteSource& source) { return read(source); }

void write_kept(const model::KeptRows& rows, const io::ByteSink& sink) {
  write(rows.name.size(), sink);
  sink(std::as_bytes(std::span(rows.name)));
  write(static_cast<std::uint64_t>(rows.width), sink);
}

model::KeptRows read_kept(const io::ByteSource& source) {
  model::KeptRows rows;
  rows.name.resize(read(source));
  source(std::as_writable_bytes(std::span(rows.name)));
  rows.width = static_cast<Index>(read(source));
  return rows;
}

}  // namespace calque::forward
