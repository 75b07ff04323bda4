/* The compiled part of the mount: what its files share.
 *
 * It answers the common requests over the very objects that the Python part works with: the node
 * table, nodes, handles.  It decides nothing.  What may be answered without asking is said by a
 * slip, which the tree gives for one directory, one caller and some time; everything else, and
 * everything that is not as expected, is passed on to Python before anything was changed.
 *
 * All of this runs in the session's thread, with the turn (the lock that keeps handlers apart) and
 * with Python's lock, which is given up round system calls that may wait for a disk (BELOW_BEGIN,
 * BELOW_END).  One that waits too long may have its turn taken away, and must not go on then. */

#ifndef SHAREFS_ENGINE_H
#define SHAREFS_ENGINE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <linux/fuse.h>
#include <stdint.h>
#include <sys/stat.h>

#ifndef FOPEN_NOFLUSH
#define FOPEN_NOFLUSH (1 << 5) /* since Linux 5.16 */
#endif

#define SLIPS 4096   /* directories with leave at the same time; a new one takes an old one's place */
#define KNOWN 1024   /* names with an answer of their own, likewise */
#define MISSED 8192  /* names that were not there, by their hashes, likewise */
#define MAKINGS 1024 /* directories in which somebody makes files, likewise */
#define SLOT_SHIFT 48 /* nodes._SLOT_SHIFT */
#define MAX_NAME 255 /* limits.h */
#define MAX_PAGES (1 << 20) /* octets in one READ or WRITE, as agreed on with the kernel */
#define STORED (1 << 15)    /* octets; shorter files come along with the answer to OPEN */

/* What a slip allows; sharefs/mount/leave.py has the same numbers. */
enum {
    LEAVE_SEE = 1,         /* LOOKUP, GETATTR, READDIRPLUS of names in the directory */
    LEAVE_ITSELF = 2,      /* GETATTR of the directory */
    LEAVE_OPEN = 4,        /* OPEN to read, READ */
    LEAVE_BRING_ALONG = 8, /* the content of short files with the answer to OPEN */
    LEAVE_WRITE = 16,      /* WRITE */
    LEAVE_FINISH = 32,     /* WRITE by who made the file with this very open(2) */
    LEAVE_ANY_KIND = 64,   /* not regular files alone */
    LEAVE_DOTS = 128,      /* names that begin with a dot, too */
    LEAVE_LOCKS = 256,     /* names that end in .lock, too */
    LEAVE_REMOVE = 512,    /* UNLINK, whatever the name */
    LEAVE_RENAME = 1024,   /* RENAME within the directory that replaces nothing, likewise */
    LEAVE_LINK = 2048,     /* LINK within the directory, likewise */
    LEAVE_UNLOCKED = 4096, /* close(2) of a file opened to read needs no FLUSH */
    LEAVE_LOCAL = 8192,    /* nor, then, of one opened to write */
    LEAVE_MAKE = 16384,    /* CREATE of what is not there, whatever the name; see Making */
    LEAVE_LASTS = 32768,   /* see lasting.c */
    LEAVE_TOUCH = 65536,   /* SETATTR of times */
    LEAVE_PERMIT = 131072, /* SETATTR of mode, owner and group */
    LEAVE_PRETEND = 262144,  /* SETATTR of mode and group, without effect */
    LEAVE_SIBLINGS = 524288, /* RENAME and LINK from and to others in the directory above */
};

typedef enum { FAILED = -1, PASS = 0, DONE = 1 } Outcome; /* FAILED: an exception is set */

typedef struct {
    uint64_t seconds;
    uint32_t part; /* nanoseconds */
} Timeout;

typedef struct {
    PyObject *directory; /* a Node; NULL: no slip */
    uint64_t epoch;
    int64_t until; /* ns, CLOCK_MONOTONIC; INT64_MAX: for good */
    int64_t uid;   /* -1: anybody */
    unsigned acts;
    unsigned hidden; /* mode bits of directories that are not told */
    Timeout entry, attr;
} Slip;

typedef struct { /* the answer to one name in a directory that has no slip */
    PyObject *directory, *node;
    uint64_t epoch;
    int64_t until, uid;
    unsigned hidden;
    Timeout entry, attr;
    size_t length;
    char name[MAX_NAME];
} Known;

typedef struct { /* whom a new file in a directory belongs to, while two directories are so */
    PyObject *directory, *above; /* Nodes; above may be NULL */
    uint64_t epoch;
    uint32_t uid, gid;                          /* whose CREATE */
    uint32_t directory_facts[3], above_facts[3]; /* mode, uid, gid */
    uint32_t owner, group, mode;                /* what the file gets */
} Making;

typedef struct {
    uint32_t opcode, uid, gid;
    uint64_t unique, number; /* of the node */
    const char *caller;      /* twelve octets: uid, gid, pid */
    const char *body;
    size_t size; /* of the body */
} Request;

typedef struct {
    PyObject_HEAD
    int fd;
    char stopping;
    char wary; /* some file system does not answer: Python is to answer, which knows which one */
    char busy; /* a request is being answered, with the turn */
    uint64_t turns; /* how often the turn was taken from a thread that had it (relief.py) */
    char drops_set_id; /* the kernel says with each WRITE whether setuid goes */
    PyObject *acquire, *release;               /* of the turn */
    PyObject *nodes;                           /* dict: number -> Node */
    PyObject *by_identity, *slots;             /* dicts of the NodeTable's */
    PyObject *callers;                         /* dict: twelve octets -> Caller */
    PyObject *handles;                         /* dict: number -> Handle */
    PyObject *make_node;                       /* Node */
    PyObject *node_at, *forget;                /* NodeTable's */
    PyObject *drop, *hold;                     /* Gate's */
    PyObject *lost;                            /* the tree's */
    PyObject *make_handle, *demand_room, *add_handle, *close_handle; /* Handle, Handles' */
    PyObject *tell; /* Lasting's; NULL: nothing lasts */
    double long_time, soon;
    unsigned long long answered;
    uint64_t epoch;
    Slip *slips;
    Known *known;
    Making *makings;
    uint64_t *missed;
    char *page; /* of long replies: MAX_PAGES and a header */
} Engine;

/* Round system calls on what is below.  A thread that has lost its turn meanwhile ends there, before
 * it touches anything: what it holds is lost. */
#define BELOW_BEGIN Py_BEGIN_ALLOW_THREADS
#define BELOW_END Py_END_ALLOW_THREADS end_if_relieved();

void end_if_relieved(void); /* module.c */

/* Attribute names, as objects. */
extern struct Names {
    PyObject *fd, *ino, *lookups, *names, *name_is, *name_is_gone, *handles, *identity, *kind,
        *is_dir, *scope, *stamp, *caller, *node, *flags, *created, *content, *uid, *watch, *due;
} names;

/* objects.c: nodes, and numbers in and out of them */
int names_start(void);
int number_in(PyObject *object, PyObject *attribute, int64_t *number);
int flag_in(PyObject *object, PyObject *attribute);
int raise_lookups(PyObject *node, int64_t by, int64_t *now);
PyObject *node_numbered(Engine *engine, uint64_t number);
PyObject *handle_numbered(Engine *engine, uint64_t number);
int is_same(PyObject *node, const struct stat *status);
PyObject *node_seen(Engine *engine, PyObject *parent, PyObject *name, const struct stat *status);
PyObject *node_known(Engine *engine, PyObject *parent, const struct stat *status);
int name_moves(PyObject *node, PyObject *old_parent, const char *old, PyObject *new_parent,
               const char *new);
int last_name(PyObject *node, PyObject **parent, PyObject **name);
PyObject *stamp_of(const struct stat *status);
int64_t now_ns(void);

/* leave.c: slips and known names */
Slip *slip_for(Engine *engine, PyObject *directory, int64_t uid, unsigned acts);
Known *known_for(Engine *engine, PyObject *directory, int64_t uid, const char *name, size_t length);
Making *making_for(Engine *engine, PyObject *directory, uint32_t uid, uint32_t gid);
int missed_before(Engine *engine, PyObject *directory, const char *name, size_t length);
int is_plain(const Slip *slip, const char *name, size_t length);
void forget_leave(Engine *engine);
int timeout_from(double seconds, Timeout *timeout);
PyObject *engine_allow(PyObject *self, PyObject *args);
PyObject *engine_know(PyObject *self, PyObject *args);
PyObject *engine_make(PyObject *self, PyObject *args);
PyObject *engine_revoke(PyObject *self, PyObject *none);

/* lasting.c */
int is_due(Engine *engine, PyObject *node, int64_t lookups);
int is_watched(PyObject *node);
int may_be_watched(Engine *engine, PyObject *directory);
int name_lasts(Engine *engine, const Slip *leave, PyObject *parent, PyObject *name, int directory,
               Timeout otherwise, Timeout *lasts);
int attributes_last(Engine *engine, const Slip *leave, PyObject *node, const struct stat *status,
                    Timeout *lasts);

/* replies.c */
void fill_attr(struct fuse_attr *attr, uint64_t number, const struct stat *status, unsigned hidden);
void fill_entry(struct fuse_entry_out *entry, uint64_t number, const struct stat *status,
                Timeout name, Timeout attr, unsigned hidden);
void reply(Engine *engine, uint64_t unique, const void *octets, size_t length);
void reply_page(Engine *engine, uint64_t unique, size_t length);
void refuse(Engine *engine, uint64_t unique, int error);
void store(Engine *engine, uint64_t number, const char *octets, size_t length);
#define PAGE_OF(engine) ((engine)->page + sizeof(struct fuse_out_header))

/* about_names.c, about_files.c, attributes.c, changing.c, making.c, listing.c: one function for
 * each opcode */
Outcome answer_lookup(Engine *, const Request *);
Outcome answer_getattr(Engine *, const Request *);
Outcome answer_forget(Engine *, const Request *);
Outcome answer_batch_forget(Engine *, const Request *);
Outcome answer_open(Engine *, const Request *);
Outcome answer_read(Engine *, const Request *);
Outcome answer_write(Engine *, const Request *);
Outcome answer_release(Engine *, const Request *);
Outcome answer_readdirplus(Engine *, const Request *);
Outcome answer_unlink(Engine *, const Request *);
Outcome answer_rename(Engine *, const Request *);
Outcome answer_rename2(Engine *, const Request *);
Outcome answer_link(Engine *, const Request *);
Outcome answer_create(Engine *, const Request *);
Outcome answer_setattr(Engine *, const Request *);
Outcome answer_getxattr(Engine *, const Request *);

size_t name_length(const char *octets, size_t size);
PyObject *directory_for(Engine *, const Request *, unsigned act, Slip *leave, int *fd);
PyObject *caller_of(Engine *, const Request *);
int hand_over(Engine *, PyObject *node, PyObject *caller, int fd, int flags, PyObject *created);
int count_lookup(Engine *, PyObject *node, int64_t *number);
Outcome answer_entry(Engine *, const Request *, PyObject *parent, const char *name,
                     const struct stat *, const Slip *);
Outcome answer_attributes(Engine *, const Request *, PyObject *node, const struct stat *,
                          const Slip *);

#endif
