#pragma once

// The code of this folder is compiled once for each instruction set (CMakeLists.txt), each copy in
// a namespace of that set's name, inline functions of the headers too: under one name the linker
// would keep a single copy of them for all, and that of AVX-512 ends the program on other
// processors. For the same reason these copies use no function templates of the standard library,
// only builtins. Code that is compiled once sees the baseline's.
#ifndef CALQUE_GGML_ISA
#define CALQUE_GGML_ISA baseline
#define CALQUE_GGML_LANES 4
#endif
