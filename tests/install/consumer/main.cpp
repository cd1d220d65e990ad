// A program of somebody else: opens a model, and a tokenizer that needs a plug-in.
#include <calque/formats/source.h>
#include <calque/text/tokenizer.h>

#include <iostream>

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const calque::formats::SourceModel model(argv[1]);
  const auto tokenizer = calque::text::load_tokenizer(argv[2]);
  std::cout << model.family.blocks.size() << " blocks, " << tokenizer->encode("a calque").size()
            << " tokens\n";
}
