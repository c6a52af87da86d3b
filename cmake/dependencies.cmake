# Third-party libraries, all from the system's packages (scripts/install_dependencies).
find_package(Threads REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(CLI11 2.1 REQUIRED)
find_package(fmt 9 REQUIRED)

# find_static_first(VARIABLE NAME): the static archive of a C library where the system ships one, else the shared library.
function(find_static_first variable name)
  if(TRITLLM_STATIC)
    find_library(${variable} NAMES lib${name}.a ${name} REQUIRED)
  else()
    find_library(${variable} NAMES ${name} REQUIRED)
  endif()
endfunction()

# Debian ships no static archive of fmt; its header-only form avoids the shared library.
add_library(tritllm_fmt INTERFACE)
target_link_libraries(tritllm_fmt INTERFACE $<IF:$<BOOL:${TRITLLM_STATIC}>,fmt::fmt-header-only,fmt::fmt>)

find_static_first(XXHASH_LIBRARY xxhash)
find_path(XXHASH_INCLUDE xxhash.h REQUIRED)
add_library(xxhash INTERFACE)
target_link_libraries(xxhash INTERFACE ${XXHASH_LIBRARY})
target_include_directories(xxhash SYSTEM INTERFACE ${XXHASH_INCLUDE})

find_static_first(PCRE2_LIBRARY pcre2-8)
find_path(PCRE2_INCLUDE pcre2.h REQUIRED)
add_library(pcre2 INTERFACE)
target_link_libraries(pcre2 INTERFACE ${PCRE2_LIBRARY})
target_include_directories(pcre2 SYSTEM INTERFACE ${PCRE2_INCLUDE})
target_compile_definitions(pcre2 INTERFACE PCRE2_CODE_UNIT_WIDTH=8 $<$<BOOL:${TRITLLM_STATIC}>:PCRE2_STATIC>)

find_static_first(UTF8PROC_LIBRARY utf8proc)
find_path(UTF8PROC_INCLUDE utf8proc.h REQUIRED)
add_library(utf8proc INTERFACE)
target_link_libraries(utf8proc INTERFACE ${UTF8PROC_LIBRARY})
target_include_directories(utf8proc SYSTEM INTERFACE ${UTF8PROC_INCLUDE})
target_compile_definitions(utf8proc INTERFACE $<$<BOOL:${TRITLLM_STATIC}>:UTF8PROC_STATIC>)

# Line editing for `tritllm chat`. The static archive needs tinfo (terminal descriptions) and libbsd (string functions); the shared
# library loads them itself.
find_static_first(EDIT_LIBRARY edit)
find_path(EDIT_INCLUDE histedit.h REQUIRED)
add_library(edit INTERFACE)
target_link_libraries(edit INTERFACE ${EDIT_LIBRARY})
target_include_directories(edit SYSTEM INTERFACE ${EDIT_INCLUDE})
if(EDIT_LIBRARY MATCHES "\\.a$")
  find_static_first(TINFO_LIBRARY tinfo)
  find_static_first(BSD_LIBRARY bsd)
  target_link_libraries(edit INTERFACE ${TINFO_LIBRARY} ${BSD_LIBRARY})
endif()

# HTTP and TLS for `tritllm serve`. Beast and Asio are headers alone.
find_path(BOOST_INCLUDE boost/beast/version.hpp REQUIRED)
find_static_first(SSL_LIBRARY ssl)
find_static_first(CRYPTO_LIBRARY crypto)
find_path(OPENSSL_INCLUDE openssl/ssl.h REQUIRED)
add_library(boost_asio INTERFACE)
target_link_libraries(boost_asio INTERFACE ${SSL_LIBRARY} ${CRYPTO_LIBRARY} ${CMAKE_DL_LIBS} Threads::Threads)
target_include_directories(boost_asio SYSTEM INTERFACE ${BOOST_INCLUDE} ${OPENSSL_INCLUDE})

# Linear algebra in float64 for calibrated recipes. Headers alone.
find_path(EIGEN_INCLUDE Eigen/Cholesky PATH_SUFFIXES eigen3 REQUIRED)
add_library(tritllm_eigen INTERFACE)
target_include_directories(tritllm_eigen SYSTEM INTERFACE ${EIGEN_INCLUDE})
