# `cpack -G DEB` makes calque, calque-torch and libcalque-dev for Debian 12; `cpack -G TGZ` one archive that can be
# unpacked anywhere. scripts/package.sh does both.
set(CPACK_PACKAGE_NAME calque)
set(CPACK_PACKAGE_VENDOR calque)
set(CPACK_PACKAGE_CONTACT "calque maintainers <maintainers@calque.example>")
set(CPACK_PACKAGE_DIRECTORY ${CMAKE_SOURCE_DIR}/out/packages)
set(CPACK_RESOURCE_FILE_LICENSE ${CMAKE_SOURCE_DIR}/LICENSE)
set(CPACK_VERBATIM_VARIABLES ON)
set(CPACK_STRIP_FILES ON)
set(CPACK_GENERATOR DEB TGZ)
set(CPACK_PROJECT_CONFIG_FILE ${CMAKE_CURRENT_LIST_DIR}/cpack_generator.cmake)

# ---- Archive

set(CPACK_ARCHIVE_COMPONENT_INSTALL ON)
string(TOLOWER ${CMAKE_SYSTEM_NAME}-${CMAKE_SYSTEM_PROCESSOR} system)
set(CPACK_PACKAGE_FILE_NAME calque-${PROJECT_VERSION}-${system})

# ---- Debian packages

set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(own_version ${PROJECT_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE})

set(CPACK_DEBIAN_PROGRAM_PACKAGE_NAME calque)
set(CPACK_DEBIAN_PROGRAM_DESCRIPTION
    "quantizes language models
Turns a language model's FP16 or BF16 checkpoint into a smaller one that
still says the same things: GPTQ, AWQ and compressed-tensors folders for
vLLM, SGLang and transformers, and GGUF files for llama.cpp and Ollama. It
holds one block of the model in memory at a time, and measures what the
smaller size costs.
.
It needs a processor with x86-64-v3 (AVX2 and FMA), and no GPU.")

set(CPACK_DEBIAN_TORCH_PACKAGE_NAME calque-torch)
set(CPACK_DEBIAN_TORCH_PACKAGE_DEPENDS "calque (= ${own_version})")
set(CPACK_DEBIAN_TORCH_DESCRIPTION
    "quantizes language models - plug-in for LibTorch
With this plug-in calque runs models by LibTorch, as it does on GPUs. Debian's
LibTorch has no CUDA: it serves to try that code on the processor.")

set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libcalque-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS
    "calque (= ${own_version}), libdnnl-dev, libfmt-dev, libpcre2-dev, libsleef-dev, libssl-dev, libtbb-dev, libutf8proc-dev, libyaml-cpp-dev, libzstd-dev, pkg-config, zlib1g-dev")
set(CPACK_DEBIAN_DEVELOPMENT_DESCRIPTION
    "quantizes language models - libraries for programs
Headers, static libraries and CMake's find_package(calque) for programs that
read, quantize or write models as calque does.")

include(CPack)
