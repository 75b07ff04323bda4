/* CREATE of a regular file that is not there.
 *
 * Whom it belongs to was decided by Python, for a directory (and the one above it) with certain
 * permissions: both are looked at again, and if they are others now, Python decides anew.  The
 * file is ours, mode 0600, until owner, group and mode are given through its descriptor. */

#define _GNU_SOURCE
#include "engine.h"

#include <fcntl.h>
#include <unistd.h>

#define KEPT_FLAGS (O_APPEND | O_DSYNC | O_SYNC) /* acting_files.KEPT_FLAGS, but the access mode */
#define FIRST_MODE 0600 /* until it has its owner; mostly it is what the file is to have anyway */

static int still_so(int fd, const uint32_t facts[3])
{
    struct stat status;
    return fstat(fd, &status) == 0 && (status.st_mode & 07777) == facts[0]
        && status.st_uid == facts[1] && status.st_gid == facts[2];
}

/* The new file; -1: Python is to try, nothing is there. */
static int make(int fd, int above, const Making *making, const char *name, int flags,
                struct stat *status)
{
    if (!still_so(fd, making->directory_facts)
        || (above >= 0 && !still_so(above, making->above_facts)))
        return -1;
    int made = openat(fd, name,
                      O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | (flags & KEPT_FLAGS),
                      FIRST_MODE);
    if (made < 0)
        return -1;
    /* The mode comes after fchown(2), which clears setgid.  A default ACL may have taken more. */
    if (fchown(made, making->owner, making->group) == 0
        && (making->mode == FIRST_MODE || fchmod(made, making->mode) == 0)
        && fstat(made, status) == 0
        && ((status->st_mode & 07777) == making->mode
            || (fchmod(made, making->mode) == 0 && fstat(made, status) == 0)))
        return made;
    close(made);
    unlinkat(fd, name, 0);
    return -1;
}

/* What the kernel may do with it by itself: as FileOperations._how() for a new file. */
static uint32_t how(unsigned acts, int flags)
{
    uint32_t may = (flags & O_ACCMODE) == O_WRONLY ? FOPEN_DIRECT_IO : 0;
    unsigned quiet = LEAVE_UNLOCKED | ((flags & O_ACCMODE) == O_RDONLY ? 0 : LEAVE_LOCAL);
    return (acts & quiet) == quiet ? may | FOPEN_NOFLUSH : may;
}

/* Tells the kernel of a file that was made.  Takes the descriptor over.  0; -1: an exception. */
static int tell_made(Engine *engine, const Request *request, PyObject *parent, const char *name,
                     PyObject *caller, int fd, int flags, const struct stat *status,
                     const Slip *leave)
{
    struct { struct fuse_entry_out entry; struct fuse_open_out open; } out;
    int64_t number;
    Timeout attr;
    PyObject *text = PyUnicode_DecodeFSDefault(name);
    PyObject *node = text == NULL ? NULL : node_seen(engine, parent, text, status);
    PyObject *stamp = stamp_of(status);
    int result = -1;
    if (node == NULL || stamp == NULL || PyObject_SetAttr(node, names.stamp, stamp) < 0)
        close(fd);
    else if (hand_over(engine, node, caller, fd, flags, Py_True) == 0
             && attributes_last(engine, leave, node, status, &attr) == 0
             && count_lookup(engine, node, &number) == 0) {
        memset(&out, 0, sizeof out);
        fill_entry(&out.entry, (uint64_t)number, status, leave->entry, attr, leave->hidden);
        out.open.fh = (uint64_t)fd;
        out.open.open_flags = how(leave->acts, flags);
        reply(engine, request->unique, &out, sizeof out);
        result = 0;
    }
    Py_XDECREF(text);
    Py_XDECREF(node);
    Py_XDECREF(stamp);
    return result;
}

static Outcome create_in(Engine *engine, const Request *request, PyObject *parent, int fd,
                         const Slip *leave, PyObject *caller, const char *name, int flags)
{
    Making *found = making_for(engine, parent, request->uid, request->gid);
    int64_t above = -1;
    if (found == NULL)
        return PASS;
    if (found->above != NULL && number_in(found->above, names.fd, &above) < 0)
        return FAILED;
    if (found->above != NULL && above < 0)
        return PASS;
    Making making = *found; /* numbers alone are used of it from here on */
    PyObject *room = PyObject_CallOneArg(engine->demand_room, caller);
    if (room == NULL) {
        PyErr_Clear(); /* Python will say it */
        return PASS;
    }
    Py_DECREF(room);
    struct stat status;
    int made;
    BELOW_BEGIN
    made = make(fd, (int)above, &making, name, flags, &status);
    BELOW_END
    if (made < 0)
        return PASS;
    if (tell_made(engine, request, parent, name, caller, made, flags, &status, leave) < 0) {
        PyErr_WriteUnraisable((PyObject *)engine);
        refuse(engine, request->unique, EIO);
    }
    return DONE;
}

Outcome answer_create(Engine *engine, const Request *request)
{
    struct fuse_create_in in;
    Slip leave;
    int fd;
    if (request->size < sizeof in)
        return PASS;
    memcpy(&in, request->body, sizeof in);
    const char *name = request->body + sizeof in;
    size_t length = name_length(name, request->size - sizeof in);
    PyObject *parent = length ? directory_for(engine, request, LEAVE_MAKE, &leave, &fd) : NULL;
    if (parent == NULL)
        return PyErr_Occurred() ? FAILED : PASS;
    PyObject *caller = is_plain(&leave, name, length) ? caller_of(engine, request) : NULL;
    Outcome outcome = PyErr_Occurred() ? FAILED : PASS;
    if (caller != NULL)
        outcome =
            create_in(engine, request, parent, fd, &leave, caller, name, (int)in.flags);
    Py_XDECREF(caller);
    Py_DECREF(parent);
    return outcome;
}
