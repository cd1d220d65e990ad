#pragma once

#include <vector>

#include "calque/io/state_file.h"
#include "calque/model/block.h"

// Hidden states write these behind their own rows: the rows that mixers keep for later blocks.
namespace calque::forward {

// In this order, each followed by its rows.
void write_count(std::size_t count, const io::ByteSink& sink);
std::size_t read_count(const io::ByteSource& source);
void write_kept(const model::KeptRows& rows, const io::ByteSink& sink);
model::KeptRows read_kept(const io::ByteSource& source);

}  // namespace calque::forward
