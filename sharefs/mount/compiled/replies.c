/* What is told to the kernel. */

#include "engine.h"

#include <sys/uio.h>
#include <unistd.h>

void fill_attr(struct fuse_attr *attr, uint64_t number, const struct stat *status, unsigned hidden)
{
    memset(attr, 0, sizeof *attr);
    attr->ino = number;
    attr->size = (uint64_t)status->st_size;
    attr->blocks = (uint64_t)status->st_blocks;
    attr->atime = (uint64_t)status->st_atim.tv_sec;
    attr->mtime = (uint64_t)status->st_mtim.tv_sec;
    attr->ctime = (uint64_t)status->st_ctim.tv_sec;
    attr->atimensec = (uint32_t)status->st_atim.tv_nsec;
    attr->mtimensec = (uint32_t)status->st_mtim.tv_nsec;
    attr->ctimensec = (uint32_t)status->st_ctim.tv_nsec;
    attr->mode = S_ISDIR(status->st_mode) ? status->st_mode & ~hidden : status->st_mode;
    attr->nlink = (uint32_t)status->st_nlink;
    attr->uid = status->st_uid;
    attr->gid = status->st_gid;
    attr->rdev = (uint32_t)status->st_rdev;
    attr->blksize = (uint32_t)status->st_blksize;
}

void fill_entry(struct fuse_entry_out *entry, uint64_t number, const struct stat *status,
                Timeout name, Timeout attr, unsigned hidden)
{
    memset(entry, 0, sizeof *entry);
    entry->nodeid = number;
    entry->entry_valid = name.seconds;
    entry->entry_valid_nsec = name.part;
    entry->attr_valid = attr.seconds;
    entry->attr_valid_nsec = attr.part;
    fill_attr(&entry->attr, number, status, hidden);
}

void refuse(Engine *engine, uint64_t unique, int error)
{
    struct fuse_out_header header = {sizeof header, -error, unique};
    /* Nobody there any more, or nobody can be helped. */
    if (write(engine->fd, &header, sizeof header) < 0)
        return;
}

/* A request that was given up meanwhile has nobody who wants the reply (ENOENT). */
static void check_taken(Engine *engine, uint64_t unique, ssize_t written)
{
    if (written < 0 && errno != ENOENT && errno != ENODEV && errno != ECONNABORTED)
        refuse(engine, unique, EIO);
}

/* From one piece of memory: the kernel looks up the pages of each piece that it is given. */
void reply(Engine *engine, uint64_t unique, const void *octets, size_t length)
{
    struct fuse_out_header header = {(uint32_t)(sizeof header + length), 0, unique};
    memcpy(engine->page, &header, sizeof header);
    if (length)
        memcpy(PAGE_OF(engine), octets, length);
    check_taken(engine, unique, write(engine->fd, engine->page, sizeof header + length));
}

/* What lies in the page, behind the place for the header. */
void reply_page(Engine *engine, uint64_t unique, size_t length)
{
    struct fuse_out_header *header = (struct fuse_out_header *)engine->page;
    header->len = (uint32_t)(sizeof *header + length);
    header->error = 0;
    header->unique = unique;
    ssize_t written;
    Py_BEGIN_ALLOW_THREADS
    written = write(engine->fd, engine->page, sizeof *header + length);
    Py_END_ALLOW_THREADS
    check_taken(engine, unique, written);
}

/* Put a file's content into the page cache.  What the kernel does not take it asks for. */
void store(Engine *engine, uint64_t number, const char *octets, size_t length)
{
    struct fuse_notify_store_out what = {number, 0, (uint32_t)length, 0};
    struct fuse_out_header header = {
        (uint32_t)(sizeof header + sizeof what + length), FUSE_NOTIFY_STORE, 0};
    struct iovec parts[] = {
        {&header, sizeof header}, {&what, sizeof what}, {(void *)octets, length}};
    if (writev(engine->fd, parts, 3) < 0)
        return;
}
